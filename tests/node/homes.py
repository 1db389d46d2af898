"""Homes made and customers run inside the test's process: a process a command would take most of a test's time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pylon import config as settings
from pylon.money.nwc.uri import parse_uri
from pylon.node import identity
from pylon.node.calls.client import RemoteNode
from pylon.node.calls.protocol import Node, result_of
from pylon.node.core import Core
from pylon.node.home import Home
from pylon.node.session import LocalNode
from pylon.node.wallet.connection import save_link


def move_in(root: Path, link: str, network: str = "play") -> Home:
    """A home as `init` and `wallet connect` make it."""
    home = Home(root, network)
    home.create()
    identity.create(home.identity_file)
    save_link(home, parse_uri(link))
    return home


@asynccontextmanager
async def customer_of(home: Home, url: str, *, bid_msat: int) -> AsyncIterator[Node]:
    """The core of a command that asks."""
    customer = {"bid_msat": bid_msat}
    config = settings.parse({"network": home.network, "relays": [url], "customer": customer})
    async with Core(home, config, serve=False) as core:
        yield LocalNode(core)


async def agreed(customer: Node, provider: Home, within_s: float = 60.0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both audits, once they are clean, wallets included, and both books say the same to the msat."""
    # Somebody who asks for providers is a customer too, and catches up with its receipts.
    await result_of(customer, "providers", {"wait_s": 0})
    theirs = RemoteNode(provider.socket)
    deadline = asyncio.get_running_loop().time() + within_s
    while True:
        ours, other = await result_of(customer, "wallet-audit"), await result_of(theirs, "wallet-audit")
        assert ours["wallet_asked"] and other["wallet_asked"]
        same = (ours["sent_msat"], ours["paid_msat"]) == (other["received_msat"], other["earned_msat"])
        if same and (ours["audit"], other["audit"]) == ("clean", "clean"):
            return ours, other
        assert asyncio.get_running_loop().time() < deadline, (ours, other)
        await asyncio.sleep(0.5)
