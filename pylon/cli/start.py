"""`pylon start`: the node itself.

This process stays for months, so this file imports neither what draws tables nor what other commands need.
"""

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack, suppress
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
)
from pylon.errors import HomeBusyError, PylonError, UnreachableError
from pylon.inference.models import needle
from pylon.node import identity
from pylon.node.calls.control import result_of
from pylon.node.core import Core
from pylon.node.hindrance import paused_line
from pylon.node.home import Home, HomeLock, open_home
from pylon.node.session import running_node
from pylon.node.settings import model_id, unnamed_model
from pylon.nostr.bech32 import nip19
from pylon.nostr.pool import RelayPool
from pylon.sections import Config
from pylon.tasks import end

# How long relays may take to open before their absence is told.
_OPENING_S = 2.0
# Between two looks at relays that are not open yet.
_LOOK_S = 1.0


def start(
    drain_s: Annotated[
        float, typer.Option(help="Seconds to finish running jobs after Ctrl-C, SIGTERM or SIGHUP.")
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
            # Its relay has the port, which would be told of otherwise.
            _refuse_second(await _ping(home))
            # A relay's server is another's weight.
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
        provider, pool = core.serving.provider, core.opened.pool
        hello: dict[str, Any] = {
            "pid": os.getpid(),
            "npub": nip19.npub(core.opened.secret.public),
            "network": config.network,
            "relays": pool.urls,
            "model": model_id(config),
            "version": __version__,
            "household": core.household_status(),
            "paused": provider.paused,
        }
        if as_json:
            print_json(hello)
            missing = []
        else:
            opened = await pool.opened(_OPENING_S)
            missing = [url for url in pool.urls if url not in opened]
            say(relays_lines(f"serving {hello['model']} as {hello['npub']}", opened, missing))
            if hello["household"] is not None:
                say(f"  {household_line(hello['household'])}")
            if expected := model_lines(config):
                say(f"  {expected}", dim=True)
            if hello["paused"]:
                say(f"  {paused_line(hello['paused'], core.serving.watch.status())}")
            say("  Press Ctrl-C to finish the current jobs and stop; press it again to stop at once.", dim=True)
        following = [asyncio.create_task(_tell_when_open(pool, missing), name="telling of relays")]
        if not as_json:
            news = tell_of_model(core.serving.inference.status, _tell)
            following.append(asyncio.create_task(news, name="telling of the model"))
        try:
            await core.stopping.wait()
            if not caught:
                _last_words("`pylon stop` asked this node to end: finishing the current jobs …", as_json)
        finally:
            await end(*following)
        if not core.hurry.is_set():
            draining = asyncio.create_task(provider.drain(drain_s), name="draining")
            hurry = asyncio.create_task(core.hurry.wait(), name="whether there is time")
            try:
                await asyncio.wait({draining, hurry}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await end(draining, hurry)
    left = "; unfinished jobs run after the next start" if core.hurry.is_set() else ""
    _last_words(f"stopped{left}", as_json)


def _last_words(text: str, as_json: bool) -> None:
    # The terminal may be gone.
    with suppress(OSError):
        if not as_json:
            say(text, dim=True, err=True)


def model_lines(config: Config) -> str:
    """What whoever serves this model has to know of it; empty where that is nothing."""
    if unnamed_model(config):
        return (
            f"The model at {config.inference.openai_url} has no name in the settings, so "
            f"customers see it as {model_id(config)}.\n  Set `model` in [inference] to the name "
            "that server uses, and start again."
        )
    return NEEDLE_ONLY if model_id(config) == needle.MODEL_ID and config.inference.engine != "openai" else ""


def relays_lines(serving: str, opened: list[str], missing: list[str]) -> str:
    """What a node that begins says of its relays: a node without any is found by nobody."""
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
    # The terminal may be gone.
    with suppress(OSError):
        say(f"  {news}")


async def _take_over(home: Home, config: Config, hub: str) -> Core:
    """A serving core that can have the lock. Waits for a command that holds it; never for another server."""
    lock, told = HomeLock(home), False
    while True:
        try:
            lock.acquire()
        except HomeBusyError:
            status = await _ping(home)
            _refuse_second(status)
            # One that has only begun, or is about to end, cannot say yet or any more who it is.
            if status and not told:
                say(_waiting_line(status), dim=True, err=True)
                told = True
            await asyncio.sleep(0.2)
            continue
        # Not let go in between: another command would take it, and this one had waited in vain.
        return Core(home, config, serve=True, hub=hub, attended=sys.stdin.isatty(), lock=lock)


async def _ping(home: Home) -> dict[str, Any]:
    """What the process that holds the home says of itself; empty where none answers."""
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
    """Has them end the core; those that came are in the set."""
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
        # The terminal may be gone.
        with suppress(OSError):
            say("finishing the current jobs; press Ctrl-C again to stop at once …", dim=True, err=True)

    for number in end_signals():
        loop.add_signal_handler(number, caught, number)
    return seen
