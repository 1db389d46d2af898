"""Two small nodes, a customer and a provider, that can die between any two steps and come back.

What the other rooms will do with this one, at its smallest: a journal beside the money, in the same transactions;
messages that are lost or late; an inference that costs what it likes within its quote.
"""

import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pylon.money.accounts import holds as hold_store
from pylon.money.accounts import mirror_store
from pylon.money.accounts import store as account_store
from pylon.money.accounts.account import AskTopUp, Run, Terms, Trial
from pylon.money.accounts.holds import Admission
from pylon.money.accounts.mirror import Claim, Outcome
from pylon.money.accounts.receipt import AccountReceipt
from pylon.money.accounts.store import Done
from pylon.money.invoices.invoice import InvoiceCode
from pylon.money.invoices.receiver import ReceiveCode, ReceiveError, Receiver
from pylon.money.limits import PLAY_CAPS
from pylon.money.msat import Msat
from pylon.money.network import Network
from pylon.money.payment import Ask, Order, PaymentRefusedError, Refusal
from pylon.money.payments.sender import Sender, SendPolicy
from pylon.money.schema import MONEY
from pylon.store.database import Database, Schema, Transaction, TransactionHere
from tests.manual_clock import ManualClock
from tests.money.fakes import FakeLightning, FakeWallet, begin_database

JOURNAL = Schema(
    "test_journal",
    (
        """
CREATE TABLE test_job (
    job TEXT PRIMARY KEY, quote INTEGER NOT NULL, wish INTEGER NOT NULL, state TEXT NOT NULL, at REAL NOT NULL
) STRICT;
CREATE TABLE test_step (what TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL) STRICT;
CREATE TRIGGER test_step_of_payment AFTER UPDATE ON money_payment
BEGIN INSERT INTO test_step VALUES ('payment', OLD.state, NEW.state); END;
CREATE TRIGGER test_step_of_invoice AFTER UPDATE ON money_invoice
BEGIN INSERT INTO test_step VALUES ('invoice', OLD.state, NEW.state); END;
CREATE TRIGGER test_step_of_hold AFTER UPDATE ON money_hold
BEGIN INSERT INTO test_step VALUES ('hold', OLD.state, NEW.state); END;
CREATE TRIGGER test_end_of_hold AFTER DELETE ON money_hold
BEGIN INSERT INTO test_step VALUES ('hold', OLD.state, 'charged'); END;
""",
    ),
)
# Refusals that an honest exchange may meet.
TEMPORARY = {
    Refusal.HASH_SEEN,
    Refusal.JOB_PAID,
    Refusal.JOB_IN_FLIGHT,
    Refusal.TOPUP_IN_FLIGHT,
    Refusal.RECEIPTS_PENDING,
    Refusal.CREDIT_MISSING,
    InvoiceCode.EXPIRED,
    InvoiceCode.EXPIRES_SOON,
}
PROVIDER, CUSTOMER = "aa" * 32, "bb" * 32


class Killed(Exception):  # noqa: N818 - what happens to a process
    """The process is gone. What it had in memory is lost, what it committed is not."""


class Death:
    """Kills at the n-th step from now, once."""

    def __init__(self) -> None:
        self.left: int | None = None

    def step(self) -> None:
        if self.left is not None:
            if self.left == 0:
                self.left = None
                raise Killed
            self.left -= 1


class MortalDatabase(Database):
    """May die before a transaction, inside it (nothing is written), and after it (all is)."""

    # Set once it is open: migrations are not what is tested here.
    death: Death | None = None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with self._mortal(super().transaction()) as tx:
            yield tx

    @asynccontextmanager
    async def transaction_here(self) -> AsyncIterator[TransactionHere]:
        async with self._mortal(super().transaction_here()) as tx:
            yield tx

    @asynccontextmanager
    async def _mortal[T](self, transaction: AbstractAsyncContextManager[T]) -> AsyncIterator[T]:
        death = self.death or Death()
        death.step()
        async with transaction as tx:
            yield tx
            death.step()
        death.step()


class MortalWallet:
    """A wallet whose caller may die before it asks and before it hears the answer."""

    def __init__(self, wallet: FakeWallet, death: Death) -> None:
        self._wallet, self._death = wallet, death

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._wallet, name)

        async def mortal(*args: Any, **named: Any) -> Any:
            self._death.step()
            answer = await call(*args, **named)
            self._death.step()
            return answer

        return mortal


@dataclass(frozen=True)
class Asked:
    """`payment-required`."""

    job: str
    amount: Msat
    invoice: str


@dataclass(frozen=True)
class Answered:
    """A result or an error, with the job's receipts."""

    job: str
    receipts: tuple[AccountReceipt, ...]
    at: float
    good: bool = True


@dataclass
class Wire:
    """What was published: kept by the relay, delivered or not."""

    stored: list[Asked | Answered] = field(default_factory=list)
    live: list[Asked | Answered] = field(default_factory=list)

    def publish(self, message: Asked | Answered) -> None:
        if message not in self.stored:
            self.stored.append(message)
        self.live.append(message)


class Node:
    def __init__(self, path: Path, clock: ManualClock, wallet: FakeWallet) -> None:
        self.path, self.clock, self.fake = path, clock, wallet
        self.death = Death()

    async def start(self) -> None:
        if not self.path.exists():
            await begin_database(self.path, MONEY, JOURNAL)
        database = await MortalDatabase.open(self.path, [MONEY, JOURNAL], durability="NORMAL")
        assert isinstance(database, MortalDatabase)
        self.database = database
        database.death = self.death
        self.wallet: Any = MortalWallet(self.fake, self.death)

    async def jobs(self, *states: str) -> list[tuple[str, Msat, Msat, float]]:
        marks = ",".join("?" * len(states))
        rows = await self.database.fetch_all(
            f"SELECT job, quote, wish, at FROM test_job WHERE state IN ({marks}) ORDER BY rowid", states
        )
        return [(row[0], Msat(row[1]), Msat(row[2]), row[3]) for row in rows]

    @staticmethod
    async def note(tx: Transaction, job: str, state: str) -> None:
        await tx.execute("UPDATE test_job SET state = ? WHERE job = ?", (state, job))

    async def take(self, job: str, quote: Msat, wish: Msat, state: str) -> None:
        async with self.database.transaction() as tx:
            await tx.execute(
                "INSERT INTO test_job VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (job, int(quote), int(wish), state, self.clock.wall()),
            )


class ProviderNode(Node):
    def __init__(self, path: Path, clock: ManualClock, wallet: FakeWallet, wire: Wire, credit: Msat, trial: bool):
        super().__init__(path, clock, wallet)
        self.wire, self.terms, self.trial = wire, Terms(credit=credit, trial=trial), Trial()

    async def start(self) -> None:
        await super().start()
        self.receiver = Receiver(self.database, self.wallet, self.clock, network=Network.PLAY)

    async def recover(self) -> None:
        await self.receiver.check(at_start=True)
        await self.admit_waiting()
        for job, *_ in await self.jobs("signed", "undone"):
            await self.publish(job)

    async def request(self, job: str, quote: Msat, wish: Msat) -> None:
        await self.take(job, quote, wish, "received")
        await self.admit_waiting()

    async def admit_waiting(self) -> None:
        for job, quote, wish, _ in await self.jobs("received", "waiting"):
            async with self.database.transaction() as tx:
                asked = Admission(CUSTOMER, job, quote, self.terms, self.clock.wall(), wish, self.trial)
                (decision,) = await hold_store.admit(tx, [asked])
                await self.note(tx, job, "queued" if isinstance(decision, Run) else "waiting")
            if isinstance(decision, AskTopUp):
                try:
                    issued = await self.receiver.issue(CUSTOMER, job, decision.amount, description="work")
                except ReceiveError as error:
                    if error.code is not ReceiveCode.JOB_HAD_INVOICE:
                        raise
                    async with self.database.transaction() as tx:
                        await self.note(tx, job, "expired")
                    continue
                self.wire.publish(Asked(job, issued.amount, issued.invoice))

    async def check(self) -> None:
        if await self.receiver.check():
            await self.admit_waiting()

    async def work(self, rng: random.Random, good: bool) -> None:
        queued = await self.jobs("queued")
        if not queued:
            return
        job, quote, *_ = queued[rng.randrange(len(queued))]
        cost = Msat(rng.randint(0, int(quote)))
        async with self.database.transaction() as tx:
            if good:
                await account_store.charge(tx, [Done(job, cost, self.clock.wall())])
                await self.note(tx, job, "signed")
            else:
                await account_store.release(tx, job, wasted=rng.random() < 0.5)
                await self.note(tx, job, "undone")
        await self.publish(job)

    async def publish(self, job: str) -> None:
        row = await self.database.fetch_one("SELECT state FROM test_job WHERE job = ?", (job,))
        assert row is not None
        rows = await self.database.fetch_all("SELECT at FROM money_receipt WHERE job = ? ORDER BY id", (job,))
        receipts = tuple(await account_store.receipts(self.database, job))
        at = rows[-1][0] if rows else self.clock.wall()
        self.wire.publish(Answered(job, receipts, at, good=row[0] != "undone"))
        async with self.database.transaction() as tx:
            await tx.execute("UPDATE test_job SET state = 'published' WHERE job = ? AND state = 'signed'", (job,))


class CustomerNode(Node):
    def __init__(self, path: Path, clock: ManualClock, wallet: FakeWallet, topups: bool) -> None:
        super().__init__(path, clock, wallet)
        self.topups = topups
        self.refusals: list[str] = []

    async def start(self) -> None:
        await super().start()
        policy = SendPolicy(Network.PLAY, PLAY_CAPS, stopped=lambda: False)
        self.sender = Sender(self.database, self.wallet, policy, self.clock)

    async def recover(self) -> None:
        await self.sender.recover()
        async with self.database.transaction() as tx:
            await mirror_store.resume(tx, self.clock.wall())

    async def receive(self, message: Asked | Answered) -> None:
        row = await self.database.fetch_one("SELECT quote, wish FROM test_job WHERE job = ?", (message.job,))
        assert row is not None
        quote, wish = Msat(row[0]), Msat(row[1])
        if isinstance(message, Answered):
            for receipt in message.receipts:
                async with self.database.transaction() as tx:
                    now = self.clock.wall()
                    claim = Claim(receipt, message.job, quote, min(message.at, now), now)
                    step = await mirror_store.observe(tx, PROVIDER, claim)
                    await self.note(tx, message.job, "answered")
                assert step.outcome is not Outcome.REFUSED, (step.mirror.ended, receipt)
            return
        limit = wish if self.topups else Msat.from_sats(quote.sats_up())
        # A wish below what the provider needs is raised: this customer wants its answer.
        order = Order(message.job, PROVIDER, CUSTOMER, quote, quote, "run", max(limit, message.amount))
        ask = Ask(PROVIDER, message.job, CUSTOMER, message.amount, message.invoice, verified=True)
        try:
            await self.sender.pay(ask, order)
        except PaymentRefusedError as error:
            self.refusals.append(error.code.value)
            if error.code not in TEMPORARY:
                raise


def lightning_pair(clock: ManualClock) -> tuple[FakeLightning, FakeWallet, FakeWallet]:
    lightning = FakeLightning(clock)
    return lightning, lightning.wallet(), lightning.wallet()
