"""Pylon's commands as processes, as a person starts them."""

import asyncio
import itertools
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson

from tests.node.forked import KINDS, Forked
from tests.node.spelling import misspelt

# On a machine that is busy with other things.
READY_S = 180.0
# Their figures have names of their own.
OTHERWISE = {"bench", "simulate"}
# Below those of Linux (from 32768) and macOS (from 49152) for whoever connects or asks for any: one of these that is
# free when a test chooses it is free when its program listens there. Each of the tests' processes has its own.
_PORTS = itertools.count(20_000 + os.getpid() % 10_000)


def environment(home: Path, relay: str, **settings: str) -> dict[str, str]:
    """A home of its own, the stand-in engine, and one relay."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYLON_")}
    return {
        **kept,
        "PYLON_HOME": str(home),
        "PYLON_RELAYS": orjson.dumps([relay]).decode(),
        "PYLON_INFERENCE__ENGINE": "instant",
        # Tests are no work for strangers: they run beside whoever is there.
        "PYLON_OWNER__RULES": "false",
        "PYLON_HOUSEHOLD__LAN_INTERFACES": '["127.0.0.1"]',
        **settings,
    }


def free_port() -> int:
    """A port at which nobody listens."""
    for port in _PORTS:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                break
    return port


async def spawn(*arguments: str, env: dict[str, str], **options: Any) -> Any:
    """The command as a process: forked, or executed where another stream or option is asked for."""
    options = {"stdin": None, "stdout": asyncio.subprocess.PIPE, "stderr": None, **options}
    kinds = [options[name] for name in ("stdin", "stdout", "stderr")]
    # On macOS a forked process may not call everything that Apple's frameworks offer.
    if sys.platform == "linux" and len(options) == len(kinds) and all(kind in KINDS for kind in kinds):
        return await Forked.start(arguments, env, kinds)
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pylon.cli.main", *arguments, env=env, **options
    )


async def run(*arguments: str, env: dict[str, str], stdin: bytes | None = None) -> tuple[int, Any, str]:
    """Runs a command with `--json`: its status, the object it printed, which is spelt as all are, and what it told
    people."""
    process = await spawn(
        *arguments, "--json", env=env, stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(stdin), 100)
    assert process.returncode is not None
    said = orjson.loads(out) if out.strip() else None
    assert arguments[0] in OTHERWISE or not list(misspelt(said)), list(misspelt(said))
    return process.returncode, said, err.decode()


class Served:
    """A command that stays, until it is stopped or killed."""

    def __init__(self, process: asyncio.subprocess.Process, hello: dict[str, Any]) -> None:
        self.process = process
        self.hello = hello

    async def kill(self) -> None:
        """kill -9."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), 60)


async def serve(*arguments: str, env: dict[str, str], stack: AsyncExitStack) -> Served:
    """Starts a command that stays; ends with the stack if it has not ended before."""
    process = await spawn(*arguments, "--json", env=env, stderr=asyncio.subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    line = await asyncio.wait_for(process.stdout.readline(), READY_S)
    assert line, (await process.stderr.read()).decode()
    served = Served(process, orjson.loads(line))
    stack.push_async_callback(served.kill)
    return served


async def start(env: dict[str, str], stack: AsyncExitStack) -> Served:
    """`pylon start`."""
    return await serve("start", env=env, stack=stack)


async def talking(*arguments: str, env: dict[str, str], stack: AsyncExitStack) -> Any:
    """Starts a command that stays, and that tells a person how it goes; ends with the stack."""
    process = await spawn(*arguments, env=env, stderr=asyncio.subprocess.DEVNULL)

    async def end() -> None:
        process.terminate()
        await process.communicate()

    stack.push_async_callback(end)
    return process


async def tells(process: Any, words: str) -> str:
    """What it tells from here on until a line has these words."""
    said = ""
    while words not in said:
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        assert line, said
        said += line.decode()
    return said


async def loaded(env: dict[str, str]) -> None:
    """Waits until the home's node has its model: it says hello before."""
    async with asyncio.timeout(READY_S):
        while (await run("status", env=env))[1]["provider"]["engine"]["state"] != "ready":
            await asyncio.sleep(0.1)
