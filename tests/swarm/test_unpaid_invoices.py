"""Whose invoice was not paid is left alone while it would hold what it is sent, and asked again when that is over."""

import asyncio
from types import SimpleNamespace

import pytest

from pylon.money.invoices.receiver import GRACE_S
from pylon.money.limits import Limit
from pylon.money.msat import Msat
from pylon.money.payment import Refusal
from pylon.money.wallet import WalletCode, WalletError
from pylon.swarm.providers.lack import STOPPED, UNFUNDED
from pylon.swarm.spending import unpaid_invoices
from pylon.swarm.spending.relations import Relations
from pylon.swarm.spending.unpaid_invoices import LEAST_UNPAID_S, MOST_UNPAID_S, WALLET_S, UnpaidInvoices
from tests.manual_clock import ManualClock

A, B, C = (letter * 64 for letter in "abc")
EMPTY = WalletCode.INSUFFICIENT_BALANCE


class Sender:
    """A stand-in for whoever pays: a wallet that says what it holds, and whether STOP is there."""

    def __init__(self) -> None:
        self.is_stopped = False
        self.holds: Msat | WalletError | None = Msat(0)
        self.asked = 0

    async def balance(self) -> Msat:
        self.asked += 1
        if self.holds is None:
            await asyncio.Event().wait()
        if isinstance(self.holds, WalletError):
            raise self.holds
        return self.holds


class Waiting:
    """Providers that were not paid, with all that they depend on."""

    def __init__(self) -> None:
        self.sender, self.clock, self.told = Sender(), ManualClock(), []
        self.relations = Relations(None, self.clock, "play sat", self.told.append)
        self.unpaid = UnpaidInvoices(self.relations, None, self.sender, self.clock)

    def left_for(self, provider: str) -> float:
        return self.relations[provider].unpaid_until - self.clock.boot()

    async def looks(self, *, holds: int | None = None, after: float = WALLET_S) -> list[str]:
        """Who is changed by a look so long after the last one."""
        if holds is not None:
            self.sender.holds = Msat(holds)
        self.told.clear()
        self.clock.advance(after)
        await self.unpaid.look()
        return self.told


@pytest.fixture
def waiting():
    return Waiting()


@pytest.mark.parametrize(
    ("lasts", "waits"),
    [
        (300.0, 300.0 + GRACE_S),
        (-5.0, LEAST_UNPAID_S),
        (86_400.0, MOST_UNPAID_S),
    ],
    ids=["as long as it lasts", "a minute at least", "within a quarter of an hour"],
)
def test_a_provider_is_left_alone_as_long_as_it_holds_its_invoice(waiting, monkeypatch, lasts, waits):
    expires_at = waiting.clock.wall() + lasts
    monkeypatch.setattr(unpaid_invoices, "decode", lambda _: SimpleNamespace(expires_at=expires_at))
    waiting.unpaid.add(A, "lnbc", Msat(1_000), EMPTY)
    assert waiting.left_for(A) == waits
    assert waiting.told == [A]


@pytest.mark.parametrize("invoice", [None, "no invoice"])
def test_what_is_no_invoice_is_waited_out_for_a_minute(waiting, invoice):
    waiting.unpaid.add(A, invoice, Msat(1_000), EMPTY)
    assert waiting.left_for(A) == LEAST_UNPAID_S


@pytest.mark.parametrize(
    ("move", "seconds"), [("set_by", -10_800), ("set_by", 10_800), ("advance", 0)], ids=["back", "ahead", "not"]
)
async def test_a_provider_is_left_alone_no_longer_and_no_shorter_though_the_clock_is_set(waiting, move, seconds):
    waiting.unpaid.add(A, None, Msat(1_000), EMPTY)
    getattr(waiting.clock, move)(seconds)
    assert await waiting.looks(after=LEAST_UNPAID_S - 1) == []
    assert await waiting.looks(after=1) == [A]


async def test_a_machine_that_slept_meanwhile_asks_again_when_it_wakes(waiting):
    waiting.unpaid.add(A, None, Msat(1_000), EMPTY)
    waiting.clock.sleep(LEAST_UNPAID_S)
    assert await waiting.looks(after=0) == [A]


async def test_whose_time_is_over_is_asked_again_and_not_a_moment_sooner(waiting):
    waiting.unpaid.add(A, None, Msat(1_000), Limit.HOUR)
    assert waiting.relations[A].barred == ""
    assert await waiting.looks(after=LEAST_UNPAID_S - 0.1) == []
    assert await waiting.looks(after=0.1) == [A]
    assert waiting.left_for(A) < 0
    assert await waiting.looks() == []


async def test_whom_stop_kept_from_being_paid_works_again_as_soon_as_it_is_lifted(waiting):
    waiting.sender.is_stopped = True
    waiting.unpaid.add(A, None, Msat(1_000), Refusal.STOPPED)
    waiting.unpaid.add(B, None, Msat(1_000), Limit.DAY)
    assert await waiting.looks(after=1.0) == []
    assert waiting.relations[A].barred == STOPPED
    waiting.sender.is_stopped = False
    assert await waiting.looks(after=1.0) == [A]
    # Nothing was tried of that invoice: the next job there pays it.
    assert (waiting.relations[A].barred, waiting.relations[A].unpaid_until) == ("", 0.0)
    assert waiting.relations[B].unpaid_until


async def test_a_wallet_is_asked_now_and_then_and_only_while_somebody_waits_for_it(waiting):
    assert await waiting.looks() == [] and waiting.sender.asked == 0
    waiting.unpaid.add(A, None, Msat(1_000), Limit.DAY)
    await waiting.looks()
    assert waiting.sender.asked == 0
    waiting.unpaid.add(A, None, Msat(1_000), EMPTY)
    for _ in range(10):
        await waiting.looks(after=WALLET_S / 5)
    assert waiting.sender.asked == 2


async def test_whom_an_empty_wallet_did_not_pay_is_worth_waiting_for_once_it_holds_more_and_enough(waiting):
    waiting.unpaid.add(A, None, Msat(3_000), EMPTY)
    # What it holds at the first look may be what was too little, fees counted.
    assert await waiting.looks(holds=3_050) == []
    assert await waiting.looks(holds=3_050) == []
    assert waiting.relations[A].barred == UNFUNDED
    assert await waiting.looks(holds=2_000) == []
    assert await waiting.looks(holds=2_500) == []
    assert await waiting.looks(holds=3_000) == [A]
    # It is tried anew when the invoice that failed is gone, and no sooner.
    assert waiting.relations[A].barred == "" and waiting.left_for(A) > 0


async def test_what_a_wallet_holds_is_counted_once_for_all_who_wait(waiting):
    for provider in (A, B, C):
        waiting.unpaid.add(provider, None, Msat(3_000), EMPTY)
    await waiting.looks(holds=0)
    assert await waiting.looks(holds=6_500) == [A, B]
    assert waiting.relations[C].barred == UNFUNDED


async def test_a_wallet_that_does_not_say_what_it_holds_holds_no_more_than_before(waiting, monkeypatch):
    monkeypatch.setattr(unpaid_invoices, "WALLET_S", 0.01)
    waiting.unpaid.add(A, None, Msat(3_000), EMPTY)
    await waiting.looks(holds=1_000)
    for answer in (WalletError(WalletCode.UNREACHABLE, "down"), None):
        waiting.sender.holds = answer
        async with asyncio.timeout(10):
            assert await waiting.looks() == []
    # Known again, and as much as before: nothing has changed.
    assert await waiting.looks(holds=1_000) == []
    assert await waiting.looks(holds=3_000) == [A]


async def test_what_the_last_process_could_not_pay_is_worth_waiting_for_when_the_wallet_holds_enough_now(waiting):
    now = waiting.clock.wall()
    owed = [SimpleNamespace(provider=A, amount=Msat(3_000), expires_at=now + 100)]
    waiting.unpaid.take_up(owed)
    assert (waiting.relations[A].barred, waiting.left_for(A)) == (UNFUNDED, 100 + GRACE_S)
    # It was empty then, so what it holds at the first look is more.
    assert await waiting.looks(holds=3_000) == [A]
