"""Installs, removes and restarts this node as a service of launchd or systemd, and reports its state.

`host/launchd.py` and `host/systemd.py` decide what is written and run.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from pylon.errors import SetupError, UsageError
from pylon.files import write_whole
from pylon.host.service import ServiceState, shown
from pylon.node import identity
from pylon.node.home import Home
from pylon.node.service.commands import Run, run_or_raise, stop
from pylon.node.service.place import Place, install_command, installed, place


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the service. `installed`: the manager starts this home's node by itself. `system`: at boot and not
    at login. `file` is its description, `log` the node's log file, and `log_hint` a command that shows the manager's
    log."""

    manager: str
    installed: bool
    system: bool
    file: str
    state: ServiceState
    log: str
    log_hint: str


def install(home: Home, wanted: Place, run: Run) -> None:
    """Writes the service's description, which replaces an older one of this home, and starts the service.

    Raises `SetupError`, `UsageError`. Nothing is changed then, unless it was the manager that failed.
    """
    check(home, wanted)
    text, file = wanted.manager.text(), wanted.manager.file()
    stop(wanted.manager, run)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, text)
    # The manager may read it as another user, and it holds no secret.
    file.chmod(0o644)
    _start(wanted, run)


def check(home: Home, wanted: Place) -> None:
    """Checks that `install` can work. Raises `SetupError` if the service could not start or another one is in its
    place, `UsageError` if only another user may install it."""
    other = place(home, system=not wanted.spec.system)
    if identity.is_protected(_key(home)):
        raise SetupError(
            f"the key in {home.identity_file} has a passphrase, and no one can type it when the machine starts",
            hint=(
                "Run `pylon identity backup FILE --plain`, move the old key away, then run `pylon "
                "identity restore FILE`."
            ),
        )
    if wanted.description() is not None and wanted.home != home.root:
        raise _taken(wanted)
    if other.home == home.root:
        raise SetupError(
            f"this home's node is already a service: {other.manager.file()}",
            hint="Remove it first with `pylon service uninstall`.",
        )
    _check_user(wanted, "install")


def uninstall(home: Home, run: Run) -> Path | None:
    """Stops the service and removes its description. Returns the file that was removed, or None if there was none.

    Raises `SetupError` for a service of another home, `UsageError` if only another user may remove it.
    """
    found = installed(home)
    if found is None:
        here = place(home)
        if here.description() is not None:
            raise _taken(here)
        return None
    _check_user(found, "uninstall")
    stop(found.manager, run)
    found.manager.file().unlink(missing_ok=True)
    for command in found.manager.forget():
        run_or_raise(run, command)
    return found.manager.file()


def restart(home: Home, run: Run) -> None:
    """Stops the node, which finishes its jobs first, and starts it again. Raises `SetupError`, `UsageError`."""
    found = installed(home)
    if found is None:
        raise SetupError("this home's node is not a service", hint=f"Run `{install_command()}` to make it one.")
    _check_user(found, "restart")
    commands = found.manager.restart() if status(home, run).state.loaded else ()
    for command in commands:
        run_or_raise(run, command)
    if not commands:
        # It was stopped for good, or no command of this manager lets a node finish its jobs and starts it anew.
        stop(found.manager, run)
        _start(found, run)


def status(home: Home, run: Run) -> Status:
    """What is installed for this home, and its state. Raises `SetupError`."""
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
        run_or_raise(run, command, retry=wanted.manager.name == "launchd")


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
