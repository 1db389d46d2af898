"""`pylon start`: the node itself.

This process stays for months, so this file imports neither what draws tables nor what other commands need.
"""

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack
from typing import Annotated, Any

import typer

from pylon import __version__, log
from pylon.cli.model_news import tell_of_model
from pylon.cli.running import (
    DRAIN_S,
    NEEDLE_ONLY,
    Json,
    end_signals,
    fail,
    holder,
    household_line,
    print_json,
    run,
    say,
    say_if_heard,
)
from pylon.errors import HomeBusyError, PylonError, UnreachableError
from pylon.inference.models import needle
from pylon.node import identity
from pylon.node.calls.protocol import result_of
from pylon.node.core import Core
from pylon.node.hindrance import paused_line
from pylon.node.home import Home, HomeLock, open_home
from pylon.node.serving import Serving
from pylon.node.session import running_node
from pylon.node.settings import model_id, unnamed_model
from pylon.nostr.bech32 import nip19
from pylon.nostr.pool import RelayPool
from pylon.sections import Config
from pylon.tasks import end

# How long relays may take to open before the node says that they are missing.
_OPENING_S = 2.0
# The time between two looks at relays that are not open yet.
_LOOK_S = 1.0


def start(
    drain_s: Annotated[
        float, typer.Option(min=0, help="Seconds to finish running jobs after Ctrl-C, SIGTERM or SIGHUP.")
    ] = DRAIN_S,
    relay: Annotated[
        bool, typer.Option("--relay", help="Run your household's relay too, open to its members alone.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Serve: take jobs from the relays, run them on this machine's model, publish the results. Runs in the
    foreground."""
    try:
        home, config = open_home()
    except PylonError as error:
        fail(error, as_json=as_json)
    run(serve(home, config, drain_s, relay=relay, as_json=as_json), as_json=as_json)


async def serve(home: Home, config: Config, drain_s: float, *, relay: bool = False, as_json: bool) -> None:
    """Serves until it is told to stop. Raises `SetupError`."""
    log.configure(config.log.level, file=home.logs / "pylon.log", json_lines=config.log.json_lines)
    url = ""
    async with AsyncExitStack() as stack:
        if relay:
            # Checked before the relay starts: that would fail because the other node's relay has the port.
            _refuse_second(await _ping(home))
            # Imported late: most nodes run no relay.
            from pylon.node.household.hub import household_relay
            from pylon.node.household.lan import announcing

            hub = household_relay(home, config)
            await stack.enter_async_context(hub)
            head = identity.load(home.identity_file).public
            await stack.enter_async_context(announcing(config, head, hub.url))
            url = hub.url
        core = await _take_over(home, config, url)
        await _serve(core, config, drain_s, as_json)


async def _serve(core: Core, config: Config, drain_s: float, as_json: bool) -> None:
    caught = _signals(core)
    async with core:
        assert core.serving is not None  # noqa: S101 - it was opened to serve
        missing = await _announce(core, core.serving, config, as_json)
        following = [asyncio.create_task(_tell_when_open(core.opened.pool, missing), name="telling of relays")]
        if not as_json:
            news = tell_of_model(core.serving.inference.status, _tell)
            following.append(asyncio.create_task(news, name="telling of the model"))
        try:
            await core.stopping.wait()
            if not caught and not as_json:
                asked = "`pylon stop` asked this node to end: finishing the current jobs …"
                say_if_heard(asked, dim=True, err=True)
        finally:
            await end(*following)
        if not core.hurry.is_set():
            await _drain(core, core.serving, drain_s)
    if not as_json:
        left = "; unfinished jobs run after the next start" if core.hurry.is_set() else ""
        say_if_heard(f"stopped{left}", dim=True, err=True)


async def _announce(core: Core, serving: Serving, config: Config, as_json: bool) -> list[str]:
    """Prints what the node serves and where. Returns the relays that are not open yet, of which a person is told
    later; with `as_json` it waits for none and names none."""
    npub, model, pool = nip19.npub(core.opened.secret.public), model_id(config), core.opened.pool
    household, paused = core.household_status(), serving.provider.paused
    if as_json:
        print_json(
            {
                "pid": os.getpid(),
                "npub": npub,
                "network": config.network,
                "relays": pool.urls,
                "model": model,
                "version": __version__,
                "household": household,
                "paused": paused,
            }
        )
        return []
    opened = await pool.opened(_OPENING_S)
    missing = [url for url in pool.urls if url not in opened]
    say(relays_lines(f"serving {model} as {npub}", opened, missing))
    if household is not None:
        say(f"  {household_line(household)}")
    if note := model_note(config):
        say(f"  {note}", dim=True)
    if paused:
        say(f"  {paused_line(paused, serving.watch.status())}")
    say("  Press Ctrl-C to finish the current jobs and stop; press it again to stop at once.", dim=True)
    return missing


async def _drain(core: Core, serving: Serving, drain_s: float) -> None:
    """Finishes the current jobs, until `drain_s` seconds have passed or somebody wants the node to stop at once."""
    draining = asyncio.create_task(serving.provider.drain(drain_s), name="draining")
    hurry = asyncio.create_task(core.hurry.wait(), name="whether there is time")
    try:
        await asyncio.wait({draining, hurry}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(draining, hurry)


def model_note(config: Config) -> str:
    """What the owner should know about the model that is served; empty if there is nothing to say."""
    if unnamed_model(config):
        return (
            f"The model at {config.inference.openai_url} has no name in the settings, so "
            f"customers see it as {model_id(config)}.\n  Set `model` in [inference] to the name "
            "that server uses, and start again."
        )
    return NEEDLE_ONLY if model_id(config) == needle.MODEL_ID and config.inference.engine != "openai" else ""


def relays_lines(serving: str, opened: list[str], missing: list[str]) -> str:
    """The line on what is served, and over which relays; without any, what to do about that."""
    if opened:
        also = f"\n  not connected yet: {', '.join(missing)}" if missing else ""
        return f"{serving}\n  over {', '.join(opened)}{also}"
    return (
        f"{serving}, but no one can reach it yet: no relay is connected\n  tried "
        f"{', '.join(missing)}\n  Run `pylon relay` in another window, or set other relays as "
        "`relays` in config.toml and start again.\n  The node keeps trying, and tells you when a "
        "relay connects."
    )


async def _tell_when_open(pool: RelayPool, missing: list[str]) -> None:
    while missing:
        await asyncio.sleep(_LOOK_S)
        for url in (status.url for status in pool.statuses if status.state == "open"):
            if url in missing:
                missing.remove(url)
                _tell(f"{url} is connected: customers on it can find this node now")


def _tell(news: str) -> None:
    say_if_heard(f"  {news}")


async def _take_over(home: Home, config: Config, hub: str) -> Core:
    """A core that has the home's lock and will serve. Waits for a command that holds the lock.

    Raises `HomeBusyError` if another node serves the home. `hub` is the URL of the household's relay, or empty.
    """
    lock, told = HomeLock(home), False
    while True:
        try:
            lock.acquire()
        except HomeBusyError:
            status = await _ping(home)
            _refuse_second(status)
            # A process that is starting or ending does not answer, and so has no name to print.
            if status and not told:
                say(_waiting_line(status), dim=True, err=True)
                told = True
            await asyncio.sleep(0.2)
            continue
        # The lock is handed on without being released, so that no other command can take it in between.
        return Core(home, config, serve=True, hub=hub, attended=sys.stdin.isatty(), lock=lock)


async def _ping(home: Home) -> dict[str, Any]:
    """The `ping` of the process that holds the home; empty if none answers."""
    try:
        return await result_of(running_node(home), "ping")
    except UnreachableError:
        return {}


def _refuse_second(status: dict[str, Any]) -> None:
    if status.get("serving"):
        raise HomeBusyError(
            f"a node already serves this home (process {status['pid']})",
            hint="`pylon status` shows its state; `pylon stop` stops it.",
        ) from None


def _waiting_line(status: dict[str, Any]) -> str:
    return (
        f"waiting for {holder(status)}, which is using this home; serving begins when it ends. To "
        "end it, press Ctrl-C there or run `pylon stop --now` …"
    )


def _signals(core: Core) -> set[signal.Signals]:
    """Lets `end_signals` end the core, a second one at once. Each signal that comes is added to the returned set."""
    loop = asyncio.get_running_loop()
    seen: set[signal.Signals] = set()

    def caught(number: signal.Signals) -> None:
        seen.add(number)
        if core.stopping.is_set():
            # A terminal that closes says so twice: once by the kernel, once by its shell.
            if number is not signal.SIGHUP:
                core.stop(at_once=True)
            return
        core.stop(at_once=False)
        say_if_heard("finishing the current jobs; press Ctrl-C again to stop at once …", dim=True, err=True)

    for number in end_signals():
        loop.add_signal_handler(number, caught, number)
    return seen
