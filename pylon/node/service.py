"""This node as a service: installed, removed, restarted and asked about, by launchd or systemd.

What is written and run is decided in `host/launchd.py` and `host/systemd.py`; here it is done.
"""

import os
import pwd
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pylon.errors import SetupError, UsageError
from pylon.files import write_whole
from pylon.host import launchd
from pylon.host.launchd import Launchd
from pylon.host.service import Command, Manager, ServiceSpec, ServiceState, shown
from pylon.host.systemd import Systemd
from pylon.node import identity
from pylon.node.home import Home

# A node that is told to stop finishes its jobs first, and managers wait for that.
_COMMAND_S = 120.0
# launchd lets go of a service some seconds after its process is gone, and refuses it anew until then.
_RELEASE_S, _POLL_S = 90.0, 0.5
_NOT_LOADED, _REFUSED_ANEW = (3, 113), (5, 37)
# There where systemd is what started this machine: sd_booted(3).
_SYSTEMD = Path("/run/systemd/system")
# Programs that macOS starts by itself may not look into these unless their owner allowed it.
_GUARDED = ("Desktop", "Documents", "Downloads")


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended, and what it printed on both streams."""

    code: int
    printed: str


type Run = Callable[[Command], Finished]


@dataclass(frozen=True, slots=True)
class Place:
    """A service manager of this machine and what it is to run."""

    manager: Manager
    spec: ServiceSpec

    def text(self) -> bytes | None:
        """The description that is there, or None."""
        try:
            return self.manager.file().read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SetupError(f"{self.manager.file()} cannot be read: {error.strerror}") from error

    @property
    def home(self) -> Path | None:
        """The home that the description there is for; None where there is none, or one that is not Pylon's."""
        text = self.text()
        return None if text is None else self.manager.home_in(text)


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


def place(home: Home, *, system: bool = False, relay: bool = False, drain_s: int = 60) -> Place:
    """Where a service of this home goes. Raises `SetupError` on a machine without a manager that Pylon knows."""
    owner = _owner(home.root)
    spec = ServiceSpec(
        program(),
        home.root,
        Path(owner.pw_dir),
        owner.pw_name,
        owner.pw_uid,
        system=system,
        relay=relay,
        drain_s=drain_s,
        private_tmp=_shares_nothing_in_tmp(home),
    )
    if sys.platform == "darwin":
        spec = replace(spec, drain_s=launchd.drain_s(drain_s))
        return Place(Launchd(spec), spec)
    if sys.platform == "linux" and _SYSTEMD.is_dir():
        return Place(Systemd(spec), spec)
    raise SetupError(
        "there is neither launchd nor systemd here",
        hint="Have `pylon start` run by whatever starts programs on this machine; SIGTERM ends it.",
    )


def installed(home: Home) -> Place | None:
    """The service of this home, whichever kind it is, or None. Raises `SetupError`."""
    both = (place(home), place(home, system=True))
    return next((found for found in both if found.home == home.root), None)


def install(home: Home, wanted: Place, run: Run) -> None:
    """Writes the description, in the place of an older one of this home, and starts the service.

    Raises `SetupError`, `UsageError`; nothing is changed then unless the manager itself refused.
    """
    check(home, wanted)
    text, file = wanted.manager.text(), wanted.manager.file()
    _stop(wanted.manager, run)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, text)
    # Managers read it as somebody else; there is no secret in it.
    file.chmod(0o644)
    for command in wanted.manager.start():
        _must(run, command, patient=wanted.manager.name == "launchd")


def check(home: Home, wanted: Place) -> None:
    """Raises `SetupError` where an installed service could not start or stands in the way, `UsageError` where only
    another user may install it."""
    other = place(home, system=not wanted.spec.system)
    if identity.is_protected(_key(home)):
        raise SetupError(
            f"the key in {home.identity_file} is under a passphrase, which nobody types when the machine starts",
            hint="`pylon identity backup FILE --plain`, move that key away, then `pylon identity restore FILE`.",
        )
    if wanted.text() is not None and wanted.home != home.root:
        raise _taken(wanted)
    if other.home == home.root:
        raise SetupError(
            f"this home's node is a service already: {other.manager.file()}",
            hint="`pylon service uninstall` removes it first.",
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
    _stop(found.manager, run)
    found.manager.file().unlink(missing_ok=True)
    for command in found.manager.forget():
        _must(run, command)
    return found.manager.file()


def restart(home: Home, run: Run) -> None:
    """Ends the node, which finishes its jobs first, and starts it anew. Raises `SetupError`, `UsageError`."""
    found = installed(home)
    if found is None:
        raise SetupError("this home's node is no service", hint="`pylon service install` makes it one.")
    _check_user(found, "restart")
    state = status(home, run).state
    # What was stopped for good is not loaded, or not running: then it is started.
    for command in found.manager.restart() if state.loaded else found.manager.start():
        _must(run, command)


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


def notes(wanted: Place, environment: Mapping[str, str], *, lingers: bool) -> list[str]:
    """What the owner should know of this service before relying on it."""
    spec, found = wanted.spec, []
    variables = sorted(name for name in environment if name.startswith("PYLON_") and name != "PYLON_HOME")
    if variables:
        found.append(f"{', '.join(variables)}: set here, not for the service. Put it into config.toml.")
    guarded = [spec.user_home / name for name in _GUARDED] if wanted.manager.name == "launchd" else []
    found += [
        f"macOS lets a service read {path} only after you allowed it; better keep it elsewhere."
        for path in (Path(spec.program[0]), spec.home)
        if any(path.is_relative_to(folder) for folder in guarded)
    ]
    if wanted.manager.name == "systemd" and not spec.system and not lingers:
        found.append(
            f"It ends when {spec.user} logs out, and starts at the next login. Where nobody logs in:"
            f" loginctl enable-linger {spec.user}"
        )
    if spec.system and spec.uid == 0:
        found.append(f"It runs as root, because {spec.home} is root's. A user of its own is safer.")
    return found


def lingers(user: str) -> bool:
    """Whether systemd runs this user's services without a login."""
    return (Path("/var/lib/systemd/linger") / user).exists()


def program() -> tuple[str, ...]:
    """How this Pylon is started, by absolute path."""
    script = Path(sys.executable).with_name("pylon")
    if os.access(script, os.X_OK):
        return (str(script),)
    return (sys.executable, "-P", "-m", "pylon.cli.main")


def run_command(command: Command) -> Finished:
    """Runs a command of a service manager. Raises `SetupError` when it is not there or does not end."""
    environment = dict(os.environ)
    runtime = Path(f"/run/user/{os.getuid()}")
    if "XDG_RUNTIME_DIR" not in environment and runtime.is_dir():
        # After `su` nothing says where the user's manager listens.
        environment["XDG_RUNTIME_DIR"] = str(runtime)
    try:
        done = subprocess.run(  # noqa: S603 - a list, made here
            command, capture_output=True, timeout=_COMMAND_S, env=environment, check=False
        )
    except FileNotFoundError as error:
        raise SetupError(f"there is no {command[0]} here") from error
    except subprocess.TimeoutExpired as error:
        raise SetupError(
            f"`{shown(command)}` did not end within {_COMMAND_S:g} s",
            hint="`pylon service status` says how it stands.",
        ) from error
    return Finished(done.returncode, (done.stdout + done.stderr).decode(errors="replace"))


def _owner(root: Path) -> pwd.struct_passwd:
    """Whose home it is: root installs a service for somebody else. Raises `SetupError`."""
    try:
        return pwd.getpwuid(root.stat().st_uid)
    except FileNotFoundError as error:
        raise SetupError(f"there is no {root}", hint="Run `pylon init` first, or name another PYLON_HOME.") from error
    except KeyError as error:
        raise SetupError(f"{root} belongs to nobody that this machine knows") from error


def _key(home: Home) -> Path:
    if not home.identity_file.exists():
        raise SetupError(f"there is no key in {home.identity_file}", hint="Run `pylon init` first.")
    return home.identity_file


def _shares_nothing_in_tmp(home: Home) -> bool:
    in_tmp = any(home.root.is_relative_to(folder) for folder in ("/tmp", "/var/tmp"))  # noqa: S108 - only compared
    return home.socket.parent == home.folder and not in_tmp


def _taken(found: Place) -> SetupError:
    if found.home is None:
        return SetupError(
            f"{found.manager.file()} is there, and Pylon did not write it", hint="Look at it, and move it away."
        )
    return SetupError(
        f"{found.manager.file()} is the service of another home, {found.home}",
        hint=f"One is enough for a user. To replace it: PYLON_HOME={found.home} pylon service uninstall",
    )


def _check_user(found: Place, what: str) -> None:
    is_root = os.getuid() == 0
    if is_root and not found.spec.system:
        raise UsageError(
            "root has no login that a service could start at", hint="With --system it is one of the machine."
        )
    if found.spec.system and not is_root:
        options = " --system" if what == "install" else ""
        options += " --relay" if what == "install" and found.spec.relay else ""
        command = ("env", f"PYLON_HOME={found.spec.home}", *found.spec.program, "service", what)
        raise UsageError("only root changes a service of the machine", hint=f"Run: sudo {shown(command)}{options}")


def _stop(manager: Manager, run: Run) -> None:
    """Ends the service where it is loaded, and waits until the manager has let go of it."""
    if not _is_loaded(manager, run):
        return
    for command in manager.stop():
        done = run(command)
        if done.code not in (0, *_NOT_LOADED):
            raise _refused(command, done)
    deadline = time.monotonic() + _RELEASE_S
    # launchd forgets what it let go of; systemd knows a unit for as long as its file is there.
    while manager.name == "launchd" and _is_loaded(manager, run):
        if time.monotonic() > deadline:
            raise SetupError(f"launchd did not let go of the service within {_RELEASE_S:g} s", hint="Try again.")
        time.sleep(_POLL_S)


def _is_loaded(manager: Manager, run: Run) -> bool:
    shown_state = run(manager.show())
    return manager.state(shown_state.printed, shown_state.code).loaded


def _must(run: Run, command: Command, *, patient: bool = False) -> None:
    deadline = time.monotonic() + _RELEASE_S
    while (done := run(command)).code != 0:
        if not patient or done.code not in _REFUSED_ANEW or time.monotonic() > deadline:
            raise _refused(command, done)
        time.sleep(_POLL_S)


def _refused(command: Command, done: Finished) -> SetupError:
    said = " ".join(done.printed.split())[:300]
    hint = "`pylon service status` says how it stands."
    if command[:2] == ("systemctl", "--user") and "bus" in said:
        hint = "No manager runs for this user. `loginctl enable-linger` starts one; or use --system."
    elif command[1:2] == ("bootstrap",):
        hint = "Nobody is logged in at its screen? Then use --system. It starts at the next login anyway."
    return SetupError(f"`{shown(command)}` failed with status {done.code}: {said}", hint=hint)
