"""Where a home's service is: which manager this machine has, and what the description there is for."""

import os
import pwd
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pylon.errors import SetupError
from pylon.host import launchd
from pylon.host.launchd import Launchd
from pylon.host.service import Manager, ServiceSpec
from pylon.host.systemd import Systemd
from pylon.node.home import Home
from pylon.node.wallet.link_lock import locks_in

# There where systemd is what started this machine: sd_booted(3).
_SYSTEMD = Path("/run/systemd/system")
# Programs that macOS starts by itself may not look into these unless their owner allowed it.
_GUARDED = ("Desktop", "Documents", "Downloads")


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


def install_command() -> str:
    """What makes the node of a home a service, typed by whoever asks; empty on a machine without a manager."""
    if not _has_manager():
        return ""
    return f"pylon service install{' --system' if os.getuid() == 0 else ''}"


def _has_manager() -> bool:
    return sys.platform == "darwin" or (sys.platform == "linux" and _SYSTEMD.is_dir())


def place(home: Home, *, system: bool = False, relay: bool = False, drain_s: int = 60) -> Place:
    """Where a service of this home goes. Raises `SetupError` on a machine without a manager that Pylon knows."""
    if not _has_manager():
        raise SetupError(
            "neither launchd nor systemd is available here",
            hint="Let whatever starts programs on this machine run `pylon start`; SIGTERM ends it.",
        )
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
        shared=locks_in(Path(owner.pw_dir)),
    )
    if sys.platform == "darwin":
        spec = replace(spec, drain_s=launchd.drain_s(drain_s))
        return Place(Launchd(spec), spec)
    return Place(Systemd(spec), spec)


def installed(home: Home) -> Place | None:
    """The service of this home, whichever kind it is, or None. Raises `SetupError`."""
    both = (place(home), place(home, system=True))
    return next((found for found in both if found.home == home.root), None)


def notes(wanted: Place, environment: Mapping[str, str], *, lingers: bool) -> list[str]:
    """What the owner should know of this service before relying on it."""
    spec, found = wanted.spec, []
    variables = sorted(name for name in environment if name.startswith("PYLON_") and name != "PYLON_HOME")
    if variables:
        found.append(f"{', '.join(variables)}: set here, but not for the service. Put it into config.toml.")
    guarded = [spec.user_home / name for name in _GUARDED] if wanted.manager.name == "launchd" else []
    found += [
        (f"macOS lets a service read {path} only after you allow it; a different location is better.")
        for path in (Path(spec.program[0]), spec.home)
        if any(path.is_relative_to(folder) for folder in guarded)
    ]
    if wanted.manager.name == "systemd" and not spec.system and not lingers:
        found.append(
            f"The service ends when {spec.user} logs out, and starts at the next login. To keep "
            f"it running without a login: loginctl enable-linger {spec.user}"
        )
    if spec.system and spec.uid == 0:
        found.append(f"It runs as root because {spec.home} belongs to root. A separate user is safer.")
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


def _owner(root: Path) -> pwd.struct_passwd:
    """Whose home it is: root installs a service for somebody else. Raises `SetupError`."""
    try:
        return pwd.getpwuid(root.stat().st_uid)
    except FileNotFoundError as error:
        raise SetupError(
            f"{root} does not exist", hint="Run `pylon init` first, or name another PYLON_HOME."
        ) from error
    except KeyError as error:
        raise SetupError(f"{root} belongs to an unknown user") from error


def _shares_nothing_in_tmp(home: Home) -> bool:
    in_tmp = any(home.root.is_relative_to(folder) for folder in ("/tmp", "/var/tmp"))  # noqa: S108 - only compared
    return home.socket.parent == home.folder and not in_tmp
