"""The payment gate looks often while somebody waits, and hardly ever otherwise."""

import asyncio
import sqlite3
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from pylon import forever
from pylon.clock import SystemClock
from pylon.money.accounts.account import AskTopUp, WaitForTopUp
from pylon.money.invoices.receiver import ReceiveCode, ReceiveError
from pylon.money.msat import Msat
from pylon.money.wallet import Hint, WalletCode, WalletError
from pylon.provider.payments import invoice_issuer, payment_watch
from pylon.provider.payments.invoice_issuer import InvoiceIssuer
from pylon.provider.payments.payment_gate import PaymentGate
from tests.waiting import until


class Watched(SystemClock):
    """Counts how often somebody asks for the time of day: once a look."""

    def __init__(self) -> None:
        self.looks, self.moved = 0, 0.0

    def wall(self) -> float:
        self.looks += 1
        return super().wall() + self.moved


class Nobody:
    """A stand-in for a receiver to which nobody has paid anything."""

    async def check(self, *, at_start: bool = False) -> list[object]:
        return []


@pytest.fixture
def clock():
    return Watched()


@pytest.fixture
async def payment_gate(clock, monkeypatch):
    # Whoever looked as often as while somebody waits would look many times within a test.
    monkeypatch.setattr(payment_watch, "TICK_S", 0.02)
    monkeypatch.setattr(payment_watch, "CHECK_S", 0.02)
    monkeypatch.setattr(invoice_issuer.invoice_store, "open_of", still_open)
    monkeypatch.setattr(invoice_issuer, "invoice_for", nothing_open)
    payment_gate = gate_of(clock, Nobody(), settlement=Settlement(WaitForTopUp(Msat(1_000), Msat(1_000))))
    await payment_gate.start()
    yield payment_gate
    await payment_gate.close()


@pytest.fixture(autouse=True)
def strangers(monkeypatch):
    monkeypatch.setattr(invoice_issuer.invoice_store, "has_paid", never_paid)


async def nothing_written(*_):
    pass


def gate_of(clock, receiver, *, wallet=None, settlement=None, end=nothing_written, most=10) -> PaymentGate:
    """A payment gate whose customers hear nothing."""
    database = SimpleNamespace(transaction_here=nullcontext)
    wallet = wallet or SilentWallet()
    replies = SimpleNamespace(processing=lambda *_: None, payment_required=lambda *_: None)
    return PaymentGate(
        issuer=InvoiceIssuer(database=database, wallet=wallet, receiver=receiver, clock=clock),
        settlement=settlement,
        replies=replies,
        clock=clock,
        run=lambda _: None,
        end=end,
        most=most,
    )


async def never_paid(database, customer):
    return False


class Settlement:
    """A stand-in that counts what it is asked, and always says the same."""

    def __init__(self, decision) -> None:
        self.decision, self.decided = decision, 0

    async def decide(self, job):
        self.decided += 1
        return self.decision


class SilentWallet:
    """A stand-in for a wallet that has no news."""

    async def events(self):
        await asyncio.Event().wait()
        yield None


@asynccontextmanager
async def nullcontext():
    yield None


async def nothing_open(tx, job, decision, *, payable_until):
    return None


async def still_open(database, customer):
    return "an invoice"


def job(now: float, customer: str = "alice", relay: str = "") -> SimpleNamespace:
    id_ = f"job of {customer}"
    request = SimpleNamespace(customer=customer, id=id_, private=True, plain=False)
    terms = SimpleNamespace(expires_at=now + 600)
    # Its event is None: what it says is in a journal that is not here.
    return SimpleNamespace(
        id=id_, request=request, relay=relay, terms=terms, received_at=now, event=None, trusted=False
    )


async def test_it_sleeps_while_nobody_waits(payment_gate, clock):
    await asyncio.sleep(0.3)
    assert clock.looks == 0


async def test_it_looks_again_and_again_as_soon_as_a_job_waits(payment_gate, clock):
    await asyncio.sleep(0.05)
    await payment_gate.handle(job(clock.wall()), WaitForTopUp(Msat(1_000), Msat(1_000)))
    before = clock.looks
    await until(lambda: clock.looks >= before + 3)


class Slow(Nobody):
    """A stand-in for a receiver whose wallet takes its time."""

    async def issue(self, *_, **__):
        await asyncio.Event().wait()


async def test_a_job_whose_invoice_is_being_made_is_not_decided_on_anew_meanwhile(clock, monkeypatch):
    monkeypatch.setattr(payment_watch, "TICK_S", 0.01)
    monkeypatch.setattr(payment_watch, "CHECK_S", 0.0)
    monkeypatch.setattr(invoice_issuer.invoice_store, "open_of", none_open)
    settlement = Settlement(AskTopUp(Msat(1_000)))
    payment_gate = gate_of(clock, Slow(), settlement=settlement)
    await payment_gate.start()
    await payment_gate.handle(job(clock.wall()), AskTopUp(Msat(1_000)))
    await asyncio.sleep(0.2)
    assert settlement.decided == 1, "when it came"
    await payment_gate.close()


class Held(Settlement):
    """A stand-in that decides on Alice's jobs only once it is let, and notes whose decisions have begun."""

    def __init__(self) -> None:
        super().__init__(WaitForTopUp(Msat(1_000), Msat(1_000)))
        self.let, self.begun = asyncio.Event(), []

    async def decide(self, job):
        self.begun.append(job.id)
        if job.request.customer == "alice":
            await self.let.wait()
        return await super().decide(job)


async def test_a_customer_waits_for_no_decision_on_another_ones_job(clock, monkeypatch):
    monkeypatch.setattr(invoice_issuer, "invoice_for", nothing_open)
    settlement, ended = Held(), []

    async def end(job, *_):
        ended.append(job.id)

    gate = gate_of(clock, Nobody(), settlement=settlement, end=end)
    waits = WaitForTopUp(Msat(1_000), Msat(1_000))
    alice, bob = job(clock.wall()), job(clock.wall(), "bob")
    first = asyncio.create_task(gate.handle(alice, waits))
    await until(lambda: settlement.begun == ["job of alice"])
    taken_back = asyncio.create_task(gate.cancel(alice.id, "alice"))
    async with asyncio.timeout(5):
        await gate.handle(bob, waits)
        await gate.cancel(bob.id, "bob")
    # Her own job ends only after the decision on it: it could run all the same.
    assert ended == ["job of bob"] and gate.has(alice.id)
    settlement.let.set()
    await asyncio.gather(first, taken_back)
    assert ended == ["job of bob", "job of alice"] and not gate.has(alice.id)


async def none_open(database, customer):
    return None


class Broken(Nobody):
    """A stand-in for a receiver whose database fails when it is asked a second time, by the clock or by a hint."""

    def __init__(self) -> None:
        self.looks, self.hints = 0, []

    async def check(self, *, at_start: bool = False) -> list[object]:
        self.looks += 1
        if self.looks == 2:
            raise sqlite3.OperationalError("disk I/O error")
        return []

    async def look_up(self, payment_hash):
        self.hints.append(payment_hash)
        if len(self.hints) == 2:
            raise sqlite3.OperationalError("disk I/O error")


class Chatty:
    """A stand-in for a wallet that always has news."""

    async def events(self):
        while True:
            await asyncio.sleep(0.01)
            yield Hint("ab" * 32)


async def test_an_error_of_the_database_ends_neither_the_looking_nor_the_listening(clock, monkeypatch):
    monkeypatch.setattr(payment_watch, "IDLE_CHECK_S", 0.01)
    monkeypatch.setattr(forever, "REST_S", 0.01)
    receiver = Broken()
    payment_gate = gate_of(clock, receiver, wallet=Chatty())
    await payment_gate.start()
    await until(lambda: receiver.looks >= 4 and len(receiver.hints) >= 4)
    await payment_gate.close()


class Unable(Nobody):
    """A stand-in for a receiver to which nothing is owed, and whose wallet makes no invoices."""

    async def issue(self, *_, **__):
        raise ReceiveError(ReceiveCode.WALLET_DOWN, "the wallet made no invoice")


class Mute(SilentWallet):
    """A stand-in for a wallet that does not answer until it is back."""

    def __init__(self) -> None:
        self.asked, self.back = 0, False

    async def info(self):
        self.asked += 1
        if not self.back:
            raise WalletError(WalletCode.UNREACHABLE, "down")


async def test_a_wallet_that_is_down_counts_as_back_when_it_has_answered_and_no_sooner(clock, monkeypatch):
    monkeypatch.setattr(payment_watch, "TICK_S", 0.01)
    monkeypatch.setattr(payment_watch, "CHECK_S", 0.0)
    wallet, settlement = Mute(), Settlement(AskTopUp(Msat(1_000)))
    payment_gate = gate_of(clock, Unable(), wallet=wallet, settlement=settlement)
    await payment_gate.start()
    await payment_gate.handle(job(clock.wall()), AskTopUp(Msat(1_000)))
    await until(lambda: wallet.asked >= 3)
    assert payment_gate.down
    wallet.back = True
    await until(lambda: not payment_gate.down)
    await payment_gate.close()


class Ending(Settlement):
    """A stand-in that notes what ended, and finds that everybody has to pay first."""

    def __init__(self) -> None:
        super().__init__(AskTopUp(Msat(1_000)))
        self.ended: dict[str, str] = {}

    async def end(self, job, state, code, reason):
        self.ended[job.id] = code.value


class Crowded(Nobody):
    """A stand-in for a receiver that makes so many invoices and no more."""

    def __init__(self, left: int) -> None:
        self.left, self.made = left, []

    async def issue(self, customer, job, amount, *, description, expiry_s):
        if not self.left:
            raise ReceiveError(ReceiveCode.TOO_MANY, "too many")
        self.left -= 1
        self.made.append(customer)
        return SimpleNamespace(payment_hash=customer, amount=amount, invoice="lnbc", customer=customer, job=job)


def crowded(clock, receiver: Crowded, most: int) -> tuple[PaymentGate, Ending]:
    settlement = Ending()
    return gate_of(clock, receiver, settlement=settlement, end=settlement.end, most=most), settlement


async def asked(payment_gate: PaymentGate) -> None:
    while payment_gate._asks:
        await asyncio.sleep(0)


async def test_a_full_room_takes_a_newcomer_for_whoever_did_not_pay_within_a_minute(clock, monkeypatch):
    monkeypatch.setattr(invoice_issuer.invoice_store, "open_of", still_open)
    payment_gate, settlement = crowded(clock, Crowded(9), most=3)
    now = clock.wall()
    for number in range(3):
        await payment_gate.handle(job(now, f"silent {number}", "wss://a"), AskTopUp(Msat(1_000)))
    await payment_gate.handle(job(now, "early"), AskTopUp(Msat(1_000)))
    assert settlement.ended == {"job of early": "busy"}
    clock.moved = 61.0
    await payment_gate.handle(job(now + 61, "late"), AskTopUp(Msat(1_000)))
    await payment_gate._watch.watch()
    assert settlement.ended == {"job of early": "busy", "job of silent 0": "payment_timeout"}
    await payment_gate.close()


async def test_who_comes_after_a_flood_is_asked_for_its_payment_before_those_of_the_flood(clock, monkeypatch):
    receiver = Crowded(0)

    async def open_of(database, customer):
        return "an invoice" if customer in receiver.made else None

    monkeypatch.setattr(invoice_issuer.invoice_store, "open_of", open_of)
    payment_gate, settlement = crowded(clock, receiver, most=100)
    for number in range(20):
        await payment_gate.handle(job(clock.wall(), f"silent {number}", "wss://a"), AskTopUp(Msat(1_000)))
        await asked(payment_gate)
    for customer, relay in (("same relay", "wss://a"), ("other relay", "wss://b")):
        await payment_gate.handle(job(clock.wall(), customer, relay), AskTopUp(Msat(1_000)))
        await asked(payment_gate)
    assert receiver.made == []
    for _ in range(3):
        receiver.left = 1
        await payment_gate._watch.check()
        await asked(payment_gate)
    assert receiver.made == ["same relay", "other relay", "silent 19"]
    assert settlement.ended == {}
    await payment_gate.close()
