"""An invoice that is paid after its node began to serve for free."""

import asyncio
from contextlib import AsyncExitStack

from pylon import config as settings
from pylon.money.books import ledger
from pylon.money.books import store as ledger_store
from pylon.money.msat import Msat
from pylon.node.bank import BankHost, bank_socket
from pylon.node.calls.client import RemoteNode
from pylon.node.calls.protocol import result_of
from pylon.node.core import Core
from pylon.node.serving import payments
from pylon.node.session import LocalNode
from pylon.relay.server import RelayServer
from tests.node.homes import move_in

CUSTOMER = "aa" * 32


async def test_what_is_paid_for_an_invoice_of_when_the_node_charged_is_credited_while_it_serves_for_free(tmp_path):
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        await stack.enter_async_context(BankHost(tmp_path / "bank", relay.url))
        bank = RemoteNode(bank_socket(tmp_path / "bank"))
        homes = {}
        for name in ("provider", "payer"):
            link = (await result_of(bank, "bank-link", {"account": name}))["link"]
            homes[name] = move_in(tmp_path / name, link)
            await result_of(bank, "bank-faucet", {"account": name, "sats": 500})

        def core_of(name: str, pricing: str) -> Core:
            raw = {"relays": [relay.url], "inference": {"engine": "instant"}, "provider": {"pricing": pricing}}
            return Core(homes[name], settings.parse(raw), serve=name == "provider")

        async with core_of("provider", "paid") as core:
            taken = payments(core.opened)
            assert taken is not None
            issued = await taken.receiver.issue(CUSTOMER, "job", Msat(5_000), description="work")
        async with core_of("payer", "free") as core:
            paid = await result_of(LocalNode(core), "wallet-pay", {"invoice": issued.invoice, "most_sat": 5})
            assert paid["state"] == "settled"
        async with core_of("provider", "free") as core, asyncio.timeout(30.0):
            while await ledger_store.balance(core.opened.database, ledger.customer(CUSTOMER)) != 5_000:
                await asyncio.sleep(0.1)
