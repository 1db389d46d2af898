"""Processes that outlive the command that started them. They are found again by name, never mistaken for others."""

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
    """The processes. `known` returns the stored data of each, by name; `save` stores it. Logs are in `folder`."""

    def __init__(self, folder: Path, known: Callable[[], dict[str, Any]], save: Callable[[], None]) -> None:
        self._folder = folder
        self._known = known
        self._save = save

    def spawn(self, name: str, command: list[str], environment: dict[str, str] | None = None) -> None:
        """Starts a process unless it runs. It keeps running when this program ends."""
        if self.process(name) is not None:
            return
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYLON_")}
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, env={**inherited, **(environment or {})}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        # With its start time, since the pid may belong to another process later.
        self._known()[name] = {"pid": process.pid, "started": psutil.Process(process.pid).create_time()}
        self._save()

    def process(self, name: str) -> psutil.Process | None:
        """The process of that name; None if it does not run."""
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
        """Terminates a process, and kills it if it has not ended some seconds later."""
        process = self.process(name)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOPS_S)
        except psutil.TimeoutExpired:
            self.kill(name)

    def kill(self, name: str) -> None:
        """Kills a process (SIGKILL)."""
        process = self.process(name)
        if process is not None:
            process.kill()
            process.wait(10)


def until(holds: Callable[[], Any], seconds: float, otherwise: str, *, hint: str) -> None:
    """Waits until `holds` returns something true. Raises `UnreachableError` with the last error after `seconds`."""
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
    """Whether something listens on this port of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
