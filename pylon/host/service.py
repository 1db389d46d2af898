"""What a service manager is told of a node, and what it says of it: plain values, whichever manager it is."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pylon.errors import SetupError

# What a node has to finish its jobs when it is told to stop, and then to hang up and close its books, in seconds.
CLOSE_S = 15
# Between two starts of a node that fails. launchd has the same by itself.
RESTART_S = 10

type Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """What is to run. `program` begins with an absolute path, `home` is PYLON_HOME, `user_home` the user's own.

    `system` says that it runs without anybody logged in, as `user`. `drain_s` is what it has to finish its jobs.
    `private_tmp`: nothing in /tmp is shared with the commands of this home. `shared` is a folder that all
    homes of this user write to, if it is there.
    """

    program: tuple[str, ...]
    home: Path
    user_home: Path
    user: str
    uid: int
    system: bool
    relay: bool
    drain_s: int
    private_tmp: bool
    shared: Path | None

    @property
    def arguments(self) -> tuple[str, ...]:
        """The whole command line. It stays in the foreground."""
        run = (*self.program, "service", "run", "--drain-s", str(self.drain_s))
        return (*run, "--relay") if self.relay else run

    def environment(self, *folders: str) -> dict[str, str]:
        """All that it gets: managers hand down nothing of a shell's. `folders` are further ones with programs."""
        own = (Path(self.program[0]).parent, self.user_home / ".local" / "bin")
        path = [*map(str, own), *folders, "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        moved = {} if self.home == self.user_home / ".pylon" else {"PYLON_HOME": str(self.home)}
        # Neither manager sets it for a service of the system on every release.
        return {"PATH": ":".join(dict.fromkeys(path)), "HOME": str(self.user_home)} | moved


@dataclass(frozen=True, slots=True)
class ServiceState:
    """What the manager says. `running` is its own word for the state, such as `active (running)`.

    `pid` is None while no process is there; `last_exit` is how the process before ended, empty when none did.
    """

    loaded: bool = False
    running: str = ""
    pid: int | None = None
    last_exit: str = ""
    starts: int | None = None


class Manager(Protocol):
    """A service manager, as far as a node needs one. All pure: commands are given, and run by others."""

    name: str

    def file(self) -> Path:
        """Where the manager looks for the description of this service."""

    def text(self) -> bytes:
        """The description."""

    def home_in(self, text: bytes) -> Path | None:
        """The home of which a description speaks that Pylon wrote, or None: somebody else wrote it."""

    def start(self) -> tuple[Command, ...]:
        """What makes the manager read the file, start the service and start it again at every boot or login."""

    def stop(self) -> tuple[Command, ...]:
        """What ends it, now and for later. The file is still there."""

    def forget(self) -> tuple[Command, ...]:
        """What makes the manager forget a file that is gone."""

    def restart(self) -> tuple[Command, ...]:
        """What ends a running one and starts it again."""

    def show(self) -> Command:
        """What prints the state that `state` reads."""

    def state(self, printed: str, code: int) -> ServiceState:
        """The state in what `show` printed, and its exit status."""

    def log_hint(self) -> str:
        """How to read what the process said before its own log was open, or empty."""


def shown(command: Command) -> str:
    """A command as one types it."""
    return shlex.join(command)


def checked(values: Sequence[str]) -> None:
    """Raises `SetupError` for a path or name that no description of a service can hold."""
    for value in values:
        if not value.isprintable():
            raise SetupError(
                f"a service cannot be created with {value!r}: it contains a control character",
                hint="Move it to a folder with a plain name.",
            )
