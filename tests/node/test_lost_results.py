"""Paid work over two relays, of which one says OK to what providers say and throws it away."""

from contextlib import AsyncExitStack
from typing import Any

from pylon import config as settings
from pylon.jobs.kinds import FEEDBACK, RESULT_KINDS
from pylon.node.bank import BankHost, bank_socket
from pylon.node.calls.client import RemoteNode
from pylon.node.calls.protocol import result_of
from pylon.node.core import Core
from pylon.node.session import LocalNode
from pylon.relay.server import RelayServer
from pylon.swarm.job import Answer
from tests.fault_relay import FaultRelay, Faults
from tests.node.homes import agreed, move_in

JOBS = 20


def is_word(event: dict[str, Any]) -> bool:
    return event["kind"] in RESULT_KINDS | {FEEDBACK}


async def test_invoices_and_receipts_that_one_relay_throws_away_come_over_the_other_and_both_books_agree(tmp_path):
    async with AsyncExitStack() as stack:
        good = await stack.enter_async_context(RelayServer())
        bad = await stack.enter_async_context(FaultRelay("", Faults(swallow=1.0, only=is_word)))
        behind = await stack.enter_async_context(RelayServer(public_urls=[bad.url]))
        bad.upstream = behind.url
        await stack.enter_async_context(BankHost(tmp_path / "bank", good.url))
        bank = RemoteNode(bank_socket(tmp_path / "bank"))

        async def core_of(name: str, *, serve: bool, **sections: Any) -> Core:
            link = (await result_of(bank, "bank-link", {"account": name}))["link"]
            home = move_in(tmp_path / name, link)
            await result_of(bank, "bank-faucet", {"account": name, "sats": 500})
            raw = {"relays": [good.url, bad.url], "inference": {"engine": "instant"}, "owner": {"rules": False}}
            config = settings.parse({**raw, **sections})
            return await stack.enter_async_context(Core(home, config, serve=serve))

        provider = await core_of("provider", serve=True, provider={"pricing": "paid", "base_msat": 1_000})
        customer = await core_of("customer", serve=False, customer={"bid_msat": 3_000, "check_share": 0.0})
        client = (await customer.customer()).client
        assert await client.caught_up()
        outcomes = await client.map([f"question number {n}" for n in range(JOBS)], deadline_s=100.0)
        assert all(isinstance(outcome, Answer) for outcome in outcomes), outcomes
        assert bad.counted["swallow"] > 0
        assert await customer.opened.database.fetch_all("SELECT * FROM money_mirror WHERE ended IS NOT NULL") == []
        ours, _ = await agreed(LocalNode(customer), provider.home)
        assert ours["paid_msat"] == JOBS * 1_000, "no job was done and charged twice"
