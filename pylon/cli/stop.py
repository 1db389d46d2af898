"""`pylon stop`: ends the node that serves this home, or names the command that uses it."""

import asyncio
import os
import signal
import time
from contextlib import suppress
from typing import Annotated, Any

import typer

from pylon.cli.output import out
from pylon.cli.running import DRAIN_S, Json, holder, print_json, run
from pylon.errors import HomeBusyError, UnreachableError
from pylon.node.calls.protocol import result_of
from pylon.node.home import Home, HomeLock, open_home
from pylon.node.session import running_node


def stop(
    now: Annotated[
        bool,
        typer.Option(
            "--now",
            help=(
                "Stop without finishing the current jobs; they run after the next start. Also ends a "
                "command that is using the home."
            ),
        ),
    ] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait for the node to end.")] = DRAIN_S + 10,
    as_json: Json = False,
) -> None:
    """Stop the node that serves this home, after it has finished its current jobs.

    If no node is serving, another command such as `pylon map` may be using the home. `pylon stop` names that
    command and leaves it alone, because it may be spending money. With --now it sends SIGTERM, which `ask`,
    `map`, `rlm` and `gateway` treat like Ctrl-C.
    """
    run(_stop(now, timeout, as_json), as_json=as_json)


async def _stop(now: bool, timeout: float, as_json: bool) -> None:
    home, _ = open_home()
    node = running_node(home)
    found = await result_of(node, "ping")
    if found["serving"]:
        await result_of(node, "stop", {"at_once": now})
    elif now:
        with suppress(ProcessLookupError):
            # Not SIGINT, which a script's background processes (`&`) ignore.
            os.kill(found["pid"], signal.SIGTERM)
    else:
        raise HomeBusyError(
            f"no node serves this home, but {holder(found)} is using it",
            hint="Wait until it is done, or run `pylon stop --now` to end it as Ctrl-C would.",
        )
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if await _gone(home, found["pid"]):
            if as_json:
                print_json({"stopped": True})
            else:
                out.print("stopped")
            return
        await asyncio.sleep(0.1)
    raise _still_there(found, now, timeout)


def _still_there(found: dict[str, Any], now: bool, timeout: float) -> UnreachableError:
    who = f"the node (process {found['pid']})" if found["serving"] else holder(found)
    hint = f"Run `kill -9 {found['pid']}` to end it at once." if now else "Run `pylon stop --now` to end it sooner."
    return UnreachableError(f"{who} did not end within {timeout:g} s", hint=hint)


async def _gone(home: Home, pid: int) -> bool:
    """Whether that process has released the home. Another one may have taken it."""
    lock = HomeLock(home)
    try:
        lock.acquire()
    except HomeBusyError:
        try:
            return bool((await result_of(running_node(home), "ping"))["pid"] != pid)
        except UnreachableError:
            # Whoever has the lock does not answer: the old process, about to end, or a new one.
            return False
    lock.release()
    return True
