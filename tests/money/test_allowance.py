"""However many keys ask at once, no more invoices are made than may be, and a wallet is not asked for all of them."""

import asyncio
import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pylon.money.books import ledger
from pylon.money.books.store import book
from pylon.money.invoices import allowance
from pylon.money.invoices import store as invoice_store
from pylon.money.invoices.receiver import ReceiveCode, ReceiveError, Receiver
from pylon.money.invoices.store import Issued
from pylon.money.msat import Msat
from pylon.money.network import Network
from pylon.money.states import InvoiceState
from pylon.money.wallet import WalletCode, WalletError
from tests.money.fakes import FakeLightning, clock, open_database

REGULAR = "aa" * 32


class Slow:
    """Whoever issues, by a fake wallet that takes its time, or fails."""

    def __init__(self, database) -> None:
        lightning = FakeLightning(clock())
        self.database, self.clock, self.wallet = database, lightning.clock, lightning.wallet()
        self.receiver = Receiver(database, self.wallet, self.clock, network=Network.PLAY)
        self.answers = asyncio.Event()
        self.asked = self.at_once = self.most = 0
        self.fails = 0
        create = self.wallet.create_invoice

        async def slowly(*arguments, **options):
            self.asked += 1
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            try:
                await self.answers.wait()
                if self.fails:
                    self.fails -= 1
                    raise WalletError(WalletCode.UNREACHABLE, "down")
                return await create(*arguments, **options)
            finally:
                self.at_once -= 1

        self.wallet.create_invoice = slowly

    async def ask(self, customer: str) -> Issued | ReceiveCode:
        try:
            return await self.receiver.issue(customer, f"job of {customer}", Msat(5_000), description="work")
        except ReceiveError as error:
            return error.code

    async def burst(self, keys: int, name: str = "c") -> list[Issued | ReceiveCode]:
        return list(await asyncio.gather(*(self.ask(f"{name}{n}") for n in range(keys))))

    async def written(self) -> int:
        return await invoice_store.count_to_strangers(self.database, since=0.0, until=math.inf)


@pytest.fixture
async def slow(tmp_path):
    database = await open_database(tmp_path)
    yield Slow(database)
    await database.close()


async def test_a_burst_of_keys_gets_no_more_invoices_than_an_hour_has(slow, monkeypatch):
    monkeypatch.setattr(allowance, "MAX_STRANGER_INVOICES", 20)
    burst = asyncio.create_task(slow.burst(100))
    while not slow.asked:
        await asyncio.sleep(0)
    slow.answers.set()
    answers = await burst
    assert sum(isinstance(answer, Issued) for answer in answers) == await slow.written() == 20
    assert answers.count(ReceiveCode.TOO_MANY) == 80


async def test_a_wallet_is_asked_for_a_few_invoices_at_once_and_whoever_has_paid_waits_behind_nobody(slow):
    now = slow.clock.wall()
    paid = Issued("f" * 64, "paid", REGULAR, Msat(5_000), "lnbc", now, now + 600, InvoiceState.SETTLED)
    async with slow.database.transaction() as tx:
        await invoice_store.add(tx, paid)
        await book(tx, [ledger.topup_received(now, REGULAR, paid.payment_hash, paid.amount)])
    burst = asyncio.create_task(slow.burst(50))
    while slow.receiver._allowance._making < 50:
        await asyncio.sleep(0)
    regular = asyncio.create_task(slow.ask(REGULAR))
    while slow.asked == allowance.AT_ONCE:
        await asyncio.sleep(0)
    slow.answers.set()
    assert isinstance(await regular, Issued)
    assert all(isinstance(answer, Issued) for answer in await burst)
    assert slow.most == allowance.AT_ONCE + 1


async def test_an_invoice_that_was_not_made_takes_no_place(slow, monkeypatch):
    monkeypatch.setattr(allowance, "MAX_STRANGER_INVOICES", 3)
    slow.fails, _ = 3, slow.answers.set()
    assert await slow.burst(3, "a") == [ReceiveCode.WALLET_DOWN] * 3
    assert all(isinstance(answer, Issued) for answer in await slow.burst(3, "b"))


async def test_whoever_stops_asking_gives_the_place_back(slow, monkeypatch):
    monkeypatch.setattr(allowance, "MAX_STRANGER_INVOICES", 1)
    asks = asyncio.create_task(slow.ask("a"))
    while not slow.asked:
        await asyncio.sleep(0)
    asks.cancel()
    await asyncio.gather(asks, return_exceptions=True)
    slow.answers.set()
    assert isinstance(await slow.ask("b"), Issued)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 2), st.sampled_from([0.0, 10.0, 4_000.0])), max_size=8))
def test_no_history_of_bursts_has_more_invoices_in_an_hour_than_may_be(tmp_path_factory, bursts):
    async def play() -> None:
        database = await open_database(tmp_path_factory.mktemp("allowance"))
        slow = Slow(database)
        slow.answers.set()
        monkeypatch.setattr(allowance, "MAX_STRANGER_INVOICES", 4)
        made: list[float] = []
        for number, (keys, fails, pause) in enumerate(bursts):
            slow.fails = fails
            answers = await slow.burst(keys, f"{number}-")
            made += [slow.clock.wall()] * sum(isinstance(answer, Issued) for answer in answers)
            slow.fails = 0
            slow.clock.advance(pause)
        for at in made:
            within = [one for one in made if at <= one < at + 3_600]
            # Beyond an hour's worth one more is made at a time, and seldom.
            beyond = pairwise(within[3:])
            assert all(later - earlier >= allowance.PACE_S for earlier, later in beyond)
        await database.close()

    with pytest.MonkeyPatch.context() as monkeypatch:
        asyncio.run(play())
