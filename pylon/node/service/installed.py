"""This node as a service: installed, removed, restarted and asked about, by launchd or systemd.

What is written and run is decided in `host/launchd.py` and `host/systemd.py`; here it is done.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from pylon.errors import SetupError, UsageError
from pylon.files import write_whole
from pylon.host.service import ServiceState, shown
from pylon.node import identity
from pylon.node.home import Home
from pylon.node.service.commands import Run, must, stop
from pylon.node.service.place import Place, install_command, installed, place


@dataclass(frozen=True, slots=True)
class Status:
    """`installed`: the manager starts this home's node by itself. `log` is the node's own."""

    manager: str
    installed: bool
    system: bool
    file: str
    state: ServiceState
    log: str
    log_hint: str


def install(home: Home, wanted: Place, run: Run) -> None:
    """Writes the description, in the place of an older one of this home, and starts the service.

    Raises `SetupError`, `UsageError`; nothing is changed then unless the manager itself refused.
    """
    check(home, wanted)
    text, file = wanted.manager.text(), wanted.manager.file()
    stop(wanted.manager, run)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, text)
    # Managers read it as somebody else; there is no secret in it.
    file.chmod(0o644)
    _start(wanted, run)


def check(home: Home, wanted: Place) -> None:
    """Raises `SetupError` where an installed service could not start or stands in the way, `UsageError` where only
    another user may install it."""
    other = place(home, system=not wanted.spec.system)
    if identity.is_protected(_key(home)):
        raise SetupError(
            f"the key in {home.identity_file} has a passphrase, and no one can type it when the machine starts",
            hint=(
                "Run `pylon identity backup FILE --plain`, move the old key away, then run `pylon "
                "identity restore FILE`."
            ),
        )
    if wanted.text() is not None and wanted.home != home.root:
        raise _taken(wanted)
    if other.home == home.root:
        raise SetupError(
            f"this home's node is already a service: {other.manager.file()}",
            hint="Remove it first with `pylon service uninstall`.",
        )
    _check_user(wanted, "install")


def uninstall(home: Home, run: Run) -> Path | None:
    """Stops the service and removes what `install` wrote; the file that is gone, or None where there was none.

    Raises `SetupError` for a service of another home, `UsageError` where root alone may remove it.
    """
    found = installed(home)
    if found is None:
        here = place(home)
        if here.text() is not None:
            raise _taken(here)
        return None
    _check_user(found, "uninstall")
    stop(found.manager, run)
    found.manager.file().unlink(missing_ok=True)
    for command in found.manager.forget():
        must(run, command)
    return found.manager.file()


def restart(home: Home, run: Run) -> None:
    """Ends the node, which finishes its jobs first, and starts it anew. Raises `SetupError`, `UsageError`."""
    found = installed(home)
    if found is None:
        raise SetupError("this home's node is not a service", hint=f"Run `{install_command()}` to make it one.")
    _check_user(found, "restart")
    commands = found.manager.restart() if status(home, run).state.loaded else ()
    for command in commands:
        must(run, command)
    if not commands:
        stop(found.manager, run)
        _start(found, run)


def status(home: Home, run: Run) -> Status:
    """What is installed for this home and how it does. Raises `SetupError`."""
    found = installed(home)
    here = found or place(home)
    state = ServiceState()
    if found is not None:
        shown_state = run(found.manager.show())
        state = found.manager.state(shown_state.printed, shown_state.code)
    return Status(
        here.manager.name,
        found is not None,
        here.spec.system,
        str(here.manager.file()),
        state,
        str(home.logs / "pylon.log"),
        here.manager.log_hint(),
    )


def _start(wanted: Place, run: Run) -> None:
    for command in wanted.manager.start():
        must(run, command, patient=wanted.manager.name == "launchd")


def _key(home: Home) -> Path:
    if not home.identity_file.exists():
        raise SetupError(f"there is no key in {home.identity_file}", hint="Run `pylon init` first.")
    return home.identity_file


def _taken(found: Place) -> SetupError:
    if found.home is None:
        return SetupError(
            f"{found.manager.file()} exists, but Pylon did not write it", hint="Check that file and move it away."
        )
    command = ("env", f"PYLON_HOME={found.home}", "pylon", "service", "uninstall")
    return SetupError(
        f"{found.manager.file()} already serves another home, {found.home}",
        hint=f"A user can have only one service. To replace it: {shown(command)}",
    )


def _check_user(found: Place, what: str) -> None:
    is_root = os.getuid() == 0
    if is_root and not found.spec.system:
        raise UsageError(
            "root never logs in, so a service at login would not start", hint="Use --system to start it at boot."
        )
    if found.spec.system and not is_root:
        options = " --system" if what == "install" else ""
        options += " --relay" if what == "install" and found.spec.relay else ""
        command = ("env", f"PYLON_HOME={found.spec.home}", *found.spec.program, "service", what)
        raise UsageError("only root can change a system service", hint=f"Run: sudo {shown(command)}{options}")
