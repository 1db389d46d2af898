"""What a service manager is told about a node, and what it reports: plain values, the same for every manager."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pylon.errors import SetupError

# Seconds that a node has to disconnect and close its databases, after the drain.
CLOSE_S = 15
# Seconds between two starts of a node that fails. launchd has the same by default.
RESTART_S = 10

type Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """The service to run. `program` begins with an absolute path; `home` is PYLON_HOME, `user_home` the user's own.

    `system`: it runs as `user` without anybody logged in. `drain_s` is how many seconds a stop leaves for its jobs.
    `private_tmp`: it may have a /tmp of its own, as nothing there is shared with the commands of this home. `shared`
    is a folder that all homes of this user write to, if it exists.
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
        """The whole command line, which stays in the foreground."""
        run = (*self.program, "service", "run", "--drain-s", str(self.drain_s))
        return (*run, "--relay") if self.relay else run

    def environment(self, *folders: str) -> dict[str, str]:
        """The whole environment: managers pass on none of a shell's. `folders` are added to PATH."""
        own = (Path(self.program[0]).parent, self.user_home / ".local" / "bin")
        path = [*map(str, own), *folders, "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        moved = {} if self.home == self.user_home / ".pylon" else {"PYLON_HOME": str(self.home)}
        # HOME is set because not every release of the managers does so for a system service.
        return {"PATH": ":".join(dict.fromkeys(path)), "HOME": str(self.user_home)} | moved


@dataclass(frozen=True, slots=True)
class ServiceState:
    """What the manager reports. `running` is its own name of the state, such as `active (running)`.

    `pid` is None while there is no process. `last_exit` is how the last process ended, empty if none has. `starts`
    is how often it was started, None if the manager does not tell.
    """

    loaded: bool = False
    running: str = ""
    pid: int | None = None
    last_exit: str = ""
    starts: int | None = None


class Manager(Protocol):
    """What a node needs of a service manager. Its commands are returned here, and run by the caller."""

    name: str

    def file(self) -> Path:
        """The path at which the manager looks for the description of this service."""

    def text(self) -> bytes:
        """The description. Raises `SetupError` for a path that it cannot hold."""

    def home_in(self, text: bytes) -> Path | None:
        """The home in a description that Pylon wrote; None if it is not Pylon's."""

    def start(self) -> tuple[Command, ...]:
        """The commands that make the manager read the file, and start the service now and at every boot or login."""

    def stop(self) -> tuple[Command, ...]:
        """The commands that stop the service for good, while the file still exists."""

    def forget(self) -> tuple[Command, ...]:
        """The commands that make the manager forget a file that was removed."""

    def restart(self) -> tuple[Command, ...]:
        """The commands that restart a running service once its jobs are finished; none where it has to be stopped and
        started."""

    def show(self) -> Command:
        """The command that prints the state, for `state` to read."""

    def state(self, printed: str, code: int) -> ServiceState:
        """The state, from the output and the exit status of `show`."""

    def log_hint(self) -> str:
        """The command that shows what the process printed before its own log was open; may be empty."""


def shown(command: Command) -> str:
    """A command as it is typed in a shell."""
    return shlex.join(command)


def checked(values: Sequence[str]) -> None:
    """Raises `SetupError` if a path or name cannot stand in the description of a service."""
    for value in values:
        if not value.isprintable():
            raise SetupError(
                f"a service cannot be created with {value!r}: it contains a control character",
                hint="Move it to a folder with a plain name.",
            )
