"""The place of a home's service: the service manager of this machine, and the description that it has."""

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

# Exists if systemd is the init system: sd_booted(3).
_SYSTEMD = Path("/run/systemd/system")
# Folders in a user's home that macOS keeps from services until the user allows access.
_GUARDED = ("Desktop", "Documents", "Downloads")


@dataclass(frozen=True, slots=True)
class Place:
    """A service manager of this machine, and the service that it is to run."""

    manager: Manager
    spec: ServiceSpec

    def description(self) -> bytes | None:
        """The content of the manager's file for this service, or None if there is none. Raises `SetupError`."""
        try:
            return self.manager.file().read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SetupError(f"{self.manager.file()} cannot be read: {error.strerror}") from error

    @property
    def home(self) -> Path | None:
        """The home that the existing description is for; None if there is none, or Pylon did not write it."""
        found = self.description()
        return None if found is None else self.manager.home_in(found)


def install_command() -> str:
    """The command with which this user installs the service; empty on a machine without launchd or systemd."""
    if not _has_manager():
        return ""
    return f"pylon service install{' --system' if os.getuid() == 0 else ''}"


def _has_manager() -> bool:
    return sys.platform == "darwin" or (sys.platform == "linux" and _SYSTEMD.is_dir())


def place(home: Home, *, system: bool = False, relay: bool = False, drain_s: int = 60) -> Place:
    """The place for a service of this home. `system`: it starts at boot and not at login; `relay`: it runs the
    household's relay too; `drain_s`: seconds that jobs in progress get at its end. Raises `SetupError` on a machine
    without launchd or systemd."""
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
    """The installed service of this home, for login or for boot, or None. Raises `SetupError`."""
    both = (place(home), place(home, system=True))
    return next((found for found in both if found.home == home.root), None)


def notes(wanted: Place, environment: Mapping[str, str], *, lingers: bool) -> list[str]:
    """Warnings about this service for its owner. `environment` is that of the installing command; `lingers`: systemd
    runs the user's services without a login."""
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
    """The command that starts this Pylon, with an absolute path."""
    script = Path(sys.executable).with_name("pylon")
    if os.access(script, os.X_OK):
        return (str(script),)
    return (sys.executable, "-P", "-m", "pylon.cli.main")


def _owner(root: Path) -> pwd.struct_passwd:
    """The owner of the home, for whom root may be installing the service. Raises `SetupError`."""
    try:
        return pwd.getpwuid(root.stat().st_uid)
    except FileNotFoundError as error:
        raise SetupError(
            f"{root} does not exist", hint="Run `pylon init` first, or name another PYLON_HOME."
        ) from error
    except KeyError as error:
        raise SetupError(f"{root} belongs to an unknown user") from error


def _shares_nothing_in_tmp(home: Home) -> bool:
    """Whether the service can have a /tmp of its own: neither the home nor its control socket is there."""
    in_tmp = any(home.root.is_relative_to(folder) for folder in ("/tmp", "/var/tmp"))  # noqa: S108 - only compared
    return home.socket.parent == home.folder and not in_tmp
