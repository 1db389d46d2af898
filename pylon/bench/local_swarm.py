"""A whole swarm on this machine: homes in one folder, and Pylon's own commands running in them as processes."""

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
class LocalSwarm:
    """The processes of one run, the folder that holds their homes, and the address of their relay."""

    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    relay: str = ""

    def environment(self, name: str, **settings: str) -> dict[str, str]:
        """The environment in which a command works with the home of that name."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PYLON_")}
        # Without owner rules: a measurement must not pause because somebody uses the machine.
        rules = {"PYLON_OWNER__RULES": "false"}
        relays = {"PYLON_RELAYS": json.dumps([self.relay])} if self.relay else {}
        return {**kept, **rules, **relays, **settings, "PYLON_HOME": str(self.folder / name)}

    async def serve(self, *arguments: str, env: dict[str, str], log: str) -> dict[str, Any]:
        """Starts a command that keeps running; returns the JSON object that it prints first.

        Raises `UnreachableError` if it ends instead.
        """
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
        """Runs a command to its end, with `given` on its standard input; returns the JSON object that it prints.

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
        """Ends all processes, the last one started first."""
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
        """Makes a home with a key, and a wallet by `link` or at the playbank; the environment of its commands."""
        env = self.environment(name, **settings)
        await self.run("init", env=env)
        if not link:
            link = (await self.run("wallet", "link", name, env=self.environment("relay")))["link"]
        await self.run("wallet", "connect", "-", env=env, given=link)
        return env

    async def open_relay(self) -> dict[str, str]:
        """Starts a relay with its playbank, in the home `relay`; the environment of its commands."""
        keeper = self.environment("relay")
        await self.run("init", env=keeper)
        self.relay = (await self.serve("relay", "--port", "0", env=keeper, log="relay.log"))["url"]
        return keeper

    async def wait_for_providers(self, count: int, customer: dict[str, str]) -> None:
        """Waits until the customer sees `count` providers that are ready. Raises `UnreachableError`."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            seen = await self.run("providers", "--wait", "0.5", env=customer)
            if sum(row["state"] == "ready" for row in seen["providers"]) == count:
                return
        raise UnreachableError("the providers did not get ready", hint=f"See the logs in {self.folder}.")


@contextlib.asynccontextmanager
async def local_swarm(prefix: str) -> AsyncIterator[LocalSwarm]:
    """A swarm, still empty, in a new folder. However this ends, its processes are ended and the folder is removed."""
    swarm = LocalSwarm(Path(tempfile.mkdtemp(prefix=prefix)))
    try:
        yield swarm
    finally:
        await asyncio.shield(swarm.close())
        shutil.rmtree(swarm.folder, ignore_errors=True)


def _spawn(arguments: tuple[str, ...], env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    # Not asyncio's subprocess: these may outlive the event loop, after which it could not close their pipes.
    with log.open("wb") as stream:
        return subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-P", "-m", "pylon.cli.main", *arguments, "--json"],
            env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stream, start_new_session=True,
        )  # fmt: skip
