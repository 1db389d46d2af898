"""The limit of one run: it holds for a command that asks by itself, and for no node that stays. Play money."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from pylon import config as settings
from pylon.errors import PylonError
from pylon.money.limits import PLAY_CAPS
from pylon.money.msat import ZERO, Msat
from pylon.node.bank import BankHost, bank_socket
from pylon.node.calls.client import RemoteNode
from pylon.node.calls.protocol import result_of
from pylon.node.core import Core
from pylon.node.wallet import live
from pylon.relay.server import RelayServer
from tests.node import programs
from tests.node.homes import move_in

# A job costs 2 sat.
RUN = Msat.from_sats(8)


@pytest.fixture
async def customer(tmp_path, monkeypatch):
    """The core of a customer whose run may pay for four jobs, beside a provider that charges."""
    monkeypatch.setattr(live, "PLAY_CAPS", replace(PLAY_CAPS, run=RUN, fee=ZERO))
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        await stack.enter_async_context(BankHost(tmp_path / "bank", relay.url))
        bank = RemoteNode(bank_socket(tmp_path / "bank"))
        homes = {}
        for name in ("provider", "customer"):
            link = (await result_of(bank, "bank-link", {"account": name}))["link"]
            homes[name] = move_in(tmp_path / name, link)
            await result_of(bank, "bank-faucet", {"account": name, "sats": 100})
        price = {"PYLON_PROVIDER__PRICING": "paid", "PYLON_PROVIDER__BASE_MSAT": "2000"}
        await programs.start(programs.environment(tmp_path / "provider", relay.url, **price), stack)
        asks = {"bid_msat": 5_000, "check_share": 0.0, "patience_s": 1.0}
        config = settings.parse({"network": "play", "relays": [relay.url], "customer": asks})

        async def core(*, stays: bool) -> Core:
            return await stack.enter_async_context(Core(homes["customer"], config, serve=False, stays=stays))

        yield core


async def answers(core: Core, most: int) -> tuple[int, PylonError | None]:
    """How many of so many questions are answered, one after another, before one is not; and why that is not."""
    client = (await core.customer()).client
    assert await client.caught_up()
    async with asyncio.timeout(programs.READY_S):
        # Its model loads beside everything else that this machine does.
        while all(listing.loading for listing in client.directory):
            await asyncio.sleep(0.1)
    for number in range(most):
        try:
            await client.complete(f"question {number}", max_tokens=8)
        except PylonError as error:
            return number, error
    return most, None


async def test_a_node_that_stays_pays_for_more_than_one_run_may_cost(customer):
    core = await customer(stays=True)
    assert await answers(core, 12) == (12, None)
    paid = await core.opened.database.fetch_one("SELECT sum(msat) AS msat, max(run) AS run FROM money_payment")
    assert paid["msat"] > RUN and paid["run"] == ""


async def test_a_command_that_asks_by_itself_pays_no_more_than_one_run_may_cost_and_the_next_one_again(customer):
    # The first job is done on credit.
    command = await customer(stays=False)
    done, error = await answers(command, 12)
    assert 1 < done < 12, repr(error)
    assert "limit_run" in str(error) and "the next one may pay again" in error.hint
    paid = await command.opened.database.fetch_one(
        "SELECT sum(msat) AS msat FROM money_payment WHERE state = 'settled'"
    )
    assert 0 < paid["msat"] <= RUN
