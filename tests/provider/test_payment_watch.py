"""What was paid is learnt, and those jobs are decided on anew for which something has changed."""

import asyncio
from types import SimpleNamespace

import pytest

from pylon.money.invoices.receiver import Credited, ReceiveCode, ReceiveError
from pylon.money.msat import Msat
from pylon.money.wallet import Hint, WalletCode, WalletError
from pylon.provider.payments import payment_watch
from pylon.provider.payments.payment_watch import CHECK_S, IDLE_CHECK_S, KEEP_INVOICE_S, PaymentWatch
from pylon.provider.payments.waiting import Waiting
from tests.manual_clock import ManualClock
from tests.waiting import until

HASH = "ab" * 32


def paid(customer: str, job: str = "") -> Credited:
    return Credited(customer, job, HASH, Msat(3_000), False)


class Desk:
    """The watch for payments, with a real list of who waits. The wallet's side says what a test says."""

    def __init__(self) -> None:
        self.clock, self.waiting = ManualClock(), Waiting(most=10)
        self.down, self.checks = False, []
        self.credits: list[Credited] | None = []
        self.open: dict[str, SimpleNamespace] = {}
        self.given_up: list[str] = []
        self.instead: Credited | Exception | None = None
        self.hinted: asyncio.Queue[Hint] = asyncio.Queue()
        self.looked_up: dict[str, Credited | Exception] = {}
        self.decided: list[tuple[str, str]] = []
        self.timed_out: list[str] = []
        self.watch = PaymentWatch(
            waiting=self.waiting, issuer=self, clock=self.clock, decide=self.decide, time_out=self.time_out
        )

    async def decide(self, customer: str, first: str) -> None:
        self.decided.append((customer, first))

    async def time_out(self, job) -> None:
        self.timed_out.append(job.id)
        self.waiting.remove(job.id)

    # As the issuer of invoices.
    async def check(self, *, at_start: bool = False):
        self.checks.append(at_start)
        return self.credits

    async def open_of(self, customer: str):
        return self.open.get(customer)

    async def give_up(self, issued):
        self.given_up.append(issued.customer)
        if isinstance(self.instead, Exception):
            raise self.instead
        return self.instead

    async def hints(self):
        while True:
            yield await self.hinted.get()

    async def look_up(self, payment_hash: str):
        found = self.looked_up[payment_hash]
        if isinstance(found, Exception):
            raise found
        return found

    def waits(self, id_: str, customer: str, *, newcomer: bool = False, open_: bool = True, lasts: float = 500.0):
        now = self.clock.wall()
        request = SimpleNamespace(customer=customer)
        terms = SimpleNamespace(expires_at=now + lasts)
        job = SimpleNamespace(id=id_, request=request, relay="ws://r", terms=terms, received_at=now)
        self.waiting.add(job, newcomer=newcomer)
        if open_:
            self.open[customer] = SimpleNamespace(customer=customer, created_at=now, payment_hash=HASH)
        return job


@pytest.fixture
async def desk():
    desk = Desk()
    yield desk
    await desk.watch.close()


async def test_what_was_paid_is_credited_and_whoever_asked_for_it_is_decided_on_first(desk):
    desk.waits("one", "alice", newcomer=True)
    desk.credits = [paid("alice", "one")]
    await desk.watch.check()
    assert desk.decided == [("alice", "one")]
    assert desk.waiting.newcomers == 0, "whoever has paid is no part of a flood of keys"


async def test_whose_invoice_is_open_and_unchanged_is_left_alone(desk):
    desk.waits("one", "alice")
    await desk.watch.check()
    assert desk.decided == [] and desk.given_up == []


async def test_whose_invoice_ran_out_is_decided_on_anew(desk):
    desk.waits("one", "alice", open_=False)
    await desk.watch.check()
    assert desk.decided == [("alice", "")]


async def test_who_waits_behind_a_job_that_has_left_is_decided_on_anew_once(desk):
    desk.waits("one", "alice")
    desk.waiting.left("alice")
    await desk.watch.check()
    await desk.watch.check()
    assert desk.decided == [("alice", "")]


async def test_a_misfit_gives_way_to_another_invoice_when_it_was_kept_for_a_while_and_no_sooner(desk):
    desk.waits("one", "alice")
    desk.waiting.misfits("alice", True)
    desk.clock.advance(KEEP_INVOICE_S - 0.1)
    await desk.watch.check()
    assert desk.given_up == [] and desk.decided == []
    desk.clock.advance(0.1)
    await desk.watch.check()
    assert desk.given_up == ["alice"] and desk.decided == [("alice", "")]
    assert not desk.waiting.is_misfit("alice")


async def test_a_misfit_that_turns_out_to_be_paid_is_credited(desk):
    desk.waits("one", "alice")
    desk.waiting.misfits("alice", True)
    desk.clock.advance(KEEP_INVOICE_S)
    desk.instead = paid("alice", "gone")
    await desk.watch.check()
    assert desk.decided == [("alice", "gone")]


@pytest.mark.parametrize(
    "error", [WalletError(WalletCode.UNREACHABLE, "down"), ReceiveError(ReceiveCode.NOT_PROVEN, "no proof")]
)
async def test_a_misfit_of_which_nothing_is_known_stays(desk, error):
    desk.waits("one", "alice")
    desk.waiting.misfits("alice", True)
    desk.clock.advance(KEEP_INVOICE_S)
    desk.instead = error
    await desk.watch.check()
    assert desk.decided == [] and desk.waiting.is_misfit("alice")


async def test_a_wallet_that_does_not_answer_changes_nothing(desk):
    desk.waits("one", "alice", open_=False)
    desk.credits = None
    await desk.watch.check()
    assert desk.decided == []


async def test_one_in_line_is_decided_on_a_look_and_first_of_its_customer_s_the_one_whose_turn_it_is(desk):
    for id_, customer in (("one", "alice"), ("two", "bob"), ("three", "bob")):
        desk.waiting.stand_in_line(desk.waits(id_, customer, newcomer=True, open_=False))
    await desk.watch.check()
    assert desk.decided == [("bob", "three")]


async def test_at_the_start_all_that_was_paid_meanwhile_is_looked_up(desk):
    await desk.watch.start()
    assert desk.checks == [True]


async def test_a_hint_has_that_payment_looked_up_and_one_that_cannot_be_ends_no_listening(desk):
    desk.looked_up = {"bad": WalletError(WalletCode.UNREACHABLE, "down"), HASH: paid("alice", "one")}
    await desk.watch.start()
    for payment in ("bad", HASH):
        desk.hinted.put_nowait(Hint(payment))
    await until(lambda: desk.decided)
    assert desk.decided == [("alice", "one")]


async def test_while_somebody_waits_the_wallet_is_asked_every_few_seconds(desk, monkeypatch):
    monkeypatch.setattr(payment_watch, "TICK_S", 0.0)
    desk.waits("one", "alice")
    desk.clock.advance(CHECK_S)
    await desk.watch.watch()
    for _ in range(3):
        desk.clock.advance(CHECK_S / 4)
        await desk.watch.watch()
    assert desk.checks == [False]
    desk.clock.advance(CHECK_S / 4)
    await desk.watch.watch()
    assert desk.checks == [False, False]


@pytest.mark.parametrize("down", [True, False])
async def test_a_wallet_that_is_down_is_asked_as_often_and_one_that_is_idle_hardly_ever(desk, monkeypatch, down):
    monkeypatch.setattr(payment_watch, "TICK_S", 0.0)
    desk.down = down
    desk.watch._checked = desk.clock.monotonic() - CHECK_S
    looks = asyncio.create_task(desk.watch.watch())
    await until(lambda: not down or looks.done())
    assert desk.checks == ([False] if down else [])
    looks.cancel()
    await asyncio.wait([looks])
    desk.watch._checked = desk.clock.monotonic() - IDLE_CHECK_S
    await desk.watch.watch()
    assert desk.checks[-1:] == [False]


async def test_whoever_has_waited_long_enough_is_let_go(desk, monkeypatch):
    monkeypatch.setattr(payment_watch, "TICK_S", 0.0)
    desk.waits("late", "alice", lasts=10.0)
    desk.waits("early", "bob", lasts=20.0)
    desk.clock.advance(10.0)
    await desk.watch.watch()
    assert desk.timed_out == ["late"] and "early" in desk.waiting


async def test_who_comes_to_wait_wakes_whoever_sleeps(desk):
    looks = asyncio.create_task(desk.watch.watch())
    await asyncio.sleep(0.01)
    assert not looks.done()
    desk.watch.wake()
    await asyncio.wait_for(looks, 10)
