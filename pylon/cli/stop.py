"""`pylon stop`: ends the node that serves this home, and tells of a command that has it."""

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
from pylon.node.calls.control import result_of
from pylon.node.home import Home, HomeLock, open_home
from pylon.node.session import running_node


def stop(
    now: Annotated[
        bool,
        typer.Option(
            "--now",
            help="Do not finish what is there; it runs after the next start. Ends a command too that has the home.",
        ),
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the node to end.")] = DRAIN_S + 10,
    as_json: Json = False,
) -> None:
    """End the node that serves this home; it finishes what it has first.

    While none serves, a command such as `pylon map` may have the home for itself. That is named and left alone, since
    it may be spending money; with --now it is told to end (SIGTERM), which `ask`, `map`, `rlm` and `gateway` take as
    Ctrl-C.
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
            # What a script has in the background (`&`) does not hear SIGINT.
            os.kill(found["pid"], signal.SIGTERM)
    else:
        raise HomeBusyError(
            f"no node serves this home: {holder(found)} works with it",
            hint="It lets go of it when it is done. `pylon stop --now` ends it, as Ctrl-C there does.",
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
    raise _goes_on(found, now, timeout)


def _goes_on(found: dict[str, Any], now: bool, timeout: float) -> UnreachableError:
    who = f"the node (process {found['pid']})" if found["serving"] else holder(found)
    hint = f"`kill -9 {found['pid']}` ends it at once." if now else "`pylon stop --now` cuts it short."
    return UnreachableError(f"{who} did not end within {timeout:g} s", hint=hint)


async def _gone(home: Home, pid: int) -> bool:
    """Whether that process has this home no more: nobody does, or another that has waited for it."""
    lock = HomeLock(home)
    try:
        lock.acquire()
    except HomeBusyError:
        try:
            return bool((await result_of(running_node(home), "ping"))["pid"] != pid)
        except UnreachableError:
            # It is about to end, or another has only begun.
            return False
    lock.release()
    return True
