"""A stage for whole runs on this machine: homes in one folder, and Pylon's own commands as processes in them."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from pylon.errors import PylonError, UnreachableError

READY_S = 120.0


@dataclass
class Stage:
    """The processes of one run, and the folder that holds all their homes."""

    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    relay: str = ""

    def environment(self, name: str, **settings: str) -> dict[str, str]:
        """The environment in which a command works with the home of that name."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PYLON_")}
        # Who measures or shows something wants it now, whoever types beside it.
        rules = {"PYLON_OWNER__RULES": "false"}
        relays = {"PYLON_RELAYS": json.dumps([self.relay])} if self.relay else {}
        return {**kept, **rules, **relays, **settings, "PYLON_HOME": str(self.folder / name)}

    async def serve(self, *arguments: str, env: dict[str, str], log: str) -> dict[str, Any]:
        """Starts a command that stays; the object it prints first."""
        process = _spawn(arguments, env, self.folder / log)
        self.processes.append(process)
        assert process.stdout is not None  # noqa: S101 - it was asked for
        line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), READY_S)
        if not line:
            raise UnreachableError(f"`pylon {arguments[0]}` ended at once", hint=f"See {self.folder / log}.")
        hello: dict[str, Any] = orjson.loads(line)
        return hello

    async def run(
        self, *arguments: str, env: dict[str, str], given: str = "", statuses: tuple[int, ...] = (0,)
    ) -> dict[str, Any]:
        """Runs a command to its end, with `given` on its standard input; the object it prints.

        Raises `PylonError` when it ends with another status than these.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "pylon.cli.main", *arguments, "--json",
            env=env, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            printed, _ = await process.communicate(given.encode())
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            raise
        if process.returncode not in statuses:
            raise PylonError(f"`pylon {arguments[0]}` failed with status {process.returncode}")
        value: dict[str, Any] = orjson.loads(printed)
        return value

    async def close(self) -> None:
        """Ends everything in the reverse of the order in which it was started."""
        for process in reversed(self.processes):
            process.terminate()
            try:
                await asyncio.to_thread(process.wait, 20)
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.wait)
            if process.stdout is not None:
                process.stdout.close()

    async def move_in(self, name: str, *, link: str = "", **settings: str) -> dict[str, str]:
        """A home with a key and a wallet, at the relay's playbank or by a link; the environment of its commands."""
        env = self.environment(name, **settings)
        await self.run("init", env=env)
        if not link:
            link = (await self.run("wallet", "link", name, env=self.environment("relay")))["link"]
        await self.run("wallet", "connect", "-", env=env, given=link)
        return env

    async def open_relay(self) -> dict[str, str]:
        """A relay with its playbank, in the home `relay`; the environment of its commands."""
        keeper = self.environment("relay")
        await self.run("init", env=keeper)
        self.relay = (await self.serve("relay", "--port", "0", env=keeper, log="relay.log"))["url"]
        return keeper

    async def wait_for_providers(self, count: int, customer: dict[str, str]) -> None:
        """Returns when a customer sees so many that are ready. Raises `UnreachableError`."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            seen = await self.run("providers", "--wait", "0.5", env=customer)
            if sum(row["state"] == "ready" for row in seen["providers"]) == count:
                return
        raise UnreachableError("the providers did not get ready", hint=f"See the logs in {self.folder}.")


@contextlib.asynccontextmanager
async def staged(prefix: str) -> AsyncIterator[Stage]:
    """A stage that leaves no process and no file, however it ends."""
    stage = Stage(Path(tempfile.mkdtemp(prefix=prefix)))
    try:
        yield stage
    finally:
        await asyncio.shield(stage.close())
        shutil.rmtree(stage.folder, ignore_errors=True)


def _spawn(arguments: tuple[str, ...], env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    # Not asyncio's: of those it wants to close the pipes when they outlive the event loop, and cannot.
    with log.open("wb") as stream:
        return subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-P", "-m", "pylon.cli.main", *arguments, "--json"],
            env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stream, start_new_session=True,
        )  # fmt: skip
