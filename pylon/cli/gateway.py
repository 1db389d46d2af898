"""`pylon gateway`: serves the swarm over HTTP to OpenAI clients, with a page that shows what the node does."""

import asyncio
import os
import sys
import time
from contextlib import AsyncExitStack
from typing import Annotated

import typer

from pylon import log
from pylon.cli.running import Json, print_json, run, say, stop_event
from pylon.errors import UsageError
from pylon.gateway.server import serving
from pylon.gateway.urls import UNENCRYPTED, urls
from pylon.host.addresses import addresses
from pylon.money.msat import MAX_SATS, sats_text
from pylon.money.network import Network
from pylon.node.gateway import TOKEN_FILE, GatewayCore, make_gateway
from pylon.node.home import open_home
from pylon.relay_url import is_loopback

# How long relays may take to open before a warning is printed, and the time between two looks at them.
_OPENING_S, _LOOK_S = 3.0, 0.1


def gateway(
    host: Annotated[str | None, typer.Option(help="The address to listen on (default: this machine only).")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="The port; 0 picks a free one.")] = None,
    sats: Annotated[
        int | None,
        typer.Option(min=0, max=MAX_SATS, help="The most all requests may cost until the gateway ends, in sats."),
    ] = None,
    no_token: Annotated[
        bool,
        typer.Option(
            "--no-token",
            help=("Let any program on this machine use the gateway without a token. Other machines still cannot."),
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Serve the swarm over HTTP: an OpenAI-compatible chat completions API, and a page that shows this node.

    Uses the running node, or connects by itself if none runs. docs/gateway.md explains how to set up a client.
    """
    run(_gateway(host, port, sats, no_token, as_json), as_json=as_json)


async def _gateway(host: str | None, port: int | None, sats: int | None, no_token: bool, as_json: bool) -> None:
    home, config = open_home()
    section = config.gateway
    host, port = host or section.host, section.port if port is None else port
    if no_token and not is_loopback(host):
        raise UsageError(
            "without a token, only this machine may use the gateway", hint="Leave out --no-token or --host."
        )
    log.configure(config.log.level, file=home.logs / "gateway.log", json_lines=config.log.json_lines)
    stop = stop_event()
    core = GatewayCore(home, config)
    async with AsyncExitStack() as stack:
        made = make_gateway(core, home, config, host=host, sats=sats, token=not no_token)
        stack.push_async_callback(core.close)
        stack.push_async_callback(made.close)
        await core.open()
        bound = await stack.enter_async_context(serving(made.app, host, port, connections=section.max_requests))
        url, elsewhere = urls(host, bound, addresses())
        # The code opens the page once: it is shown to a person, and not written where others may read it.
        once = not no_token and sys.stdout.isatty()
        page = f"{url}/#key={made.sessions.code}" if once else f"{url}/"
        token_file = None if no_token else str(home.folder / TOKEN_FILE)
        limit = sats_text(made.asks.budget.limit, Network(config.network).unit)
        if as_json:
            hello = {"pid": os.getpid(), "url": f"{url}/v1", "page": page, "token_file": token_file}
            hello |= {"elsewhere": [f"{one}/v1" for one in elsewhere], "encrypted": False}
            print_json({**hello, "budget_msat": made.asks.budget.limit})
        else:
            key = "no token needed" if token_file is None else f"the token is in {token_file}"
            say(f"chat completions at {url}/v1\n  {key}")
            say(f"  page{' (the link works once, within ten minutes)' if once else ''}: {page}")
            for one in elsewhere:
                if one != url:
                    say(f"  on other machines, use {one} instead of {url}")
            say(f"  it may spend {limit}; press Ctrl-C to end it", dim=True)
            if not is_loopback(host):
                say(f"  {UNENCRYPTED}", fg="yellow")
            for line in await _relays_lines(core):
                say(f"  {line}", fg="yellow")
        await stop.wait()


async def _relays_lines(core: GatewayCore) -> list[str]:
    """Waits a few seconds for a relay to open; lines that say what to do if none does."""
    deadline = time.monotonic() + _OPENING_S
    while True:
        relays = (await core.result("status"))["relays"]
        if any(relay["state"] == "open" for relay in relays):
            return []
        if time.monotonic() > deadline:
            tried = ", ".join(relay["url"] for relay in relays)
            return [
                f"no relay can be reached yet, so no one can be asked; tried {tried}",
                (
                    "Run `pylon relay` in another window, or set other relays as `relays` in "
                    "config.toml and start again. The gateway keeps trying."
                ),
            ]
        await asyncio.sleep(_LOOK_S)
