"""Processes that outlive the command that started them: found again by name, and never taken for somebody else's."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from pylon.errors import PylonError, UnreachableError

_STOPS_S = 30.0


class Running:
    """`known` gives what is remembered of each by its name, which `save` writes down; logs go into `folder`."""

    def __init__(self, folder: Path, known: Callable[[], dict[str, Any]], save: Callable[[], None]) -> None:
        self._folder = folder
        self._known = known
        self._save = save

    def spawn(self, name: str, command: list[str], environment: dict[str, str] | None = None) -> None:
        """Starts a process unless it runs. It goes on when this program ends."""
        if self.process(name) is not None:
            return
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYLON_")}
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, env={**inherited, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        # A pid alone may be somebody else's by the time it is stopped.
        self._known()[name] = {"pid": process.pid, "started": psutil.Process(process.pid).create_time()}
        self._save()

    def process(self, name: str) -> psutil.Process | None:
        """The process of that name, when it runs."""
        known = self._known().get(name)
        if known is None:
            return None
        try:
            process = psutil.Process(known["pid"])
            if process.create_time() == known["started"] and process.status() != psutil.STATUS_ZOMBIE:
                return process
        except psutil.NoSuchProcess:
            pass
        return None

    def stop(self, name: str) -> None:
        """Asks it to end, and ends it when it does not."""
        process = self.process(name)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOPS_S)
        except psutil.TimeoutExpired:
            self.kill(name)

    def kill(self, name: str) -> None:
        """kill -9."""
        process = self.process(name)
        if process is not None:
            process.kill()
            process.wait(10)


def until(holds: Callable[[], Any], seconds: float, otherwise: str, *, hint: str) -> None:
    """Returns when it holds. Raises `UnreachableError` with the last error after so many seconds."""
    deadline = time.monotonic() + seconds
    last = ""
    while time.monotonic() < deadline:
        try:
            if holds():
                return
        except PylonError as error:
            last = f": {error}"
        time.sleep(0.2)
    raise UnreachableError(f"{otherwise}{last}", hint=hint)


def free_ports(names: Sequence[str]) -> dict[str, int]:
    """A free port on loopback for each name."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in names]
    ports = {name: int(one.getsockname()[1]) for name, one in zip(names, sockets, strict=True)}
    for one in sockets:
        one.close()
    return ports


def listens(port: int) -> bool:
    """Whether anybody listens on this port of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
