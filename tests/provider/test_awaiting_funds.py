"""A job that waits for its payment is let go or run, never both, whatever happens to it at once."""

import asyncio
from types import SimpleNamespace

import pytest

from pylon.clock import SystemClock
from pylon.errors import MoneyError
from pylon.jobs.request import JobRequest, ReceivedRequest
from pylon.money import audit
from pylon.money.accounts.account import AskTopUp, Run, Terms, TooMuch, WaitForTopUp
from pylon.money.books import ledger
from pylon.money.books.store import book
from pylon.money.invoices import store as invoice_store
from pylon.money.invoices.receiver import Credited
from pylon.money.invoices.store import Issued
from pylon.money.msat import Msat
from pylon.money.schema import MONEY
from pylon.money.states import InvoiceState
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey
from pylon.provider.admission import Accept
from pylon.provider.customers import Customers, Standing
from pylon.provider.journal import Journal
from pylon.provider.payments import payment_watch, waiting
from pylon.provider.payments.invoice_issuer import InvoiceIssuer
from pylon.provider.payments.payment_gate import PaymentGate
from pylon.provider.payments.settlement import AccountSettlement, CreditPolicy
from pylon.provider.queue import Job
from pylon.provider.rows import SCHEMA, JobState, Work
from pylon.provider.work.results import Results
from pylon.store.database import Database
from pylon.store.group import GroupCommit
from tests.money import accounts
from tests.waiting import until

KEY, OTHER = (SecretKey(bytes(31) + bytes([n])) for n in (7, 8))
QUOTE = Msat(2_000)


class Nobody:
    """A stand-in for a receiver to which nobody pays anything."""

    async def check(self, *, at_start: bool = False) -> list[object]:
        return []


class SilentWallet:
    """A stand-in for a wallet that has no news."""

    async def events(self):
        await asyncio.Event().wait()
        yield None


class Desk:
    """A payment gate over a real database, where two jobs of strangers may wait; `ran` are those for the runner."""

    def __init__(self, database, group) -> None:
        self.database, self.clock, journal = database, SystemClock(), Journal(database, group)
        self.settlement = AccountSettlement(journal, CreditPolicy(stranger=Terms(), trial=None))
        self.ran: list[Job] = []
        self.errors: list[str] = []
        self.told: list[str] = []
        replies = SimpleNamespace(
            refuse=lambda refusal: self.errors.append(refusal.code.value),
            processing=lambda *_: None,
            refusal=lambda refusal: KEY.sign(EventDraft(7000, "cancelled", (("e", refusal.id),), 1)),
        )
        results = Results(
            secret=KEY,
            keys=ConversationKeys(KEY),
            inference=SimpleNamespace(model=None),
            journal=journal,
            settlement=self.settlement,
            outbox=SimpleNamespace(put=lambda publication: self.told.append(publication.event.tag("e"))),
            replies=replies,
            clock=self.clock,
            customers=Customers(),
        )
        self.payment_gate = PaymentGate(
            issuer=InvoiceIssuer(database=database, wallet=SilentWallet(), receiver=Nobody(), clock=self.clock),
            settlement=self.settlement,
            replies=replies,
            clock=self.clock,
            run=self.ran.append,
            end=results.end,
            most=2,
        )

    async def taken(self, text: str = "prompt", *, received_at: float | None = None, key: SecretKey = KEY) -> Job:
        """A job that waits in the journal, and that the payment gate has not heard of."""
        now = self.clock.wall() if received_at is None else received_at
        event = key.sign(EventDraft(5940, text, created_at=int(now)))
        request = ReceivedRequest(event.id, event.pubkey, int(now), JobRequest(text), True, ("p",))
        job = Job(request, event, Accept(QUOTE, int(now + 3_600), "m", 8), now, "ws://r")
        assert isinstance(await self.settlement.take(job), AskTopUp)
        return job

    async def waiting(self, text: str = "prompt", *, received_at: float | None = None) -> Job:
        """A job that waits with the payment gate."""
        job = await self.taken(text, received_at=received_at)
        self.payment_gate._waiting.add(job)
        return job

    async def pay(self, msat: int = 5_000, *, key: SecretKey = KEY) -> None:
        now, amount = self.clock.wall(), Msat(msat)
        invoice = Issued("f" * 64, "j" * 64, key.public, amount, "lnbc", now, now + 600, InvoiceState.SETTLED)
        async with self.database.transaction() as tx:
            await invoice_store.add(tx, invoice)
            await book(tx, [ledger.topup_received(now, key.public, invoice.payment_hash, amount)])

    async def states(self) -> list[str]:
        return [row["state"] for row in await self.database.fetch_all("SELECT state FROM job ORDER BY rowid")]

    async def held(self) -> int:
        return int((await accounts.load(self.database, KEY.public)).held)


@pytest.fixture
async def desk(tmp_path):
    database = await Database.open(tmp_path / "a.db", [SCHEMA, MONEY])
    group = GroupCommit(database)
    group.start()
    yield Desk(database, group)
    await group.close()
    async with database.transaction() as tx:
        assert audit.examine(await audit.collect(tx)) == []
    await database.close()


async def test_a_job_that_its_customer_has_paid_for_does_not_wait_among_strangers(desk):
    job = await desk.waiting()
    assert job.standing is Standing.STRANGER
    await desk.pay()
    await desk.payment_gate._decide_on_all(KEY.public, "")
    assert [(one.id, one.standing) for one in desk.ran] == [(job.id, Standing.RECENT)]


async def test_a_job_that_is_taken_back_while_it_is_paid_for_runs_and_is_not_ended(desk):
    job = await desk.waiting()
    await desk.pay()
    paid = asyncio.create_task(desk.payment_gate._decide_on_all(KEY.public, ""))
    await asyncio.sleep(0)
    await asyncio.gather(paid, desk.payment_gate.cancel(job.id, KEY.public))
    # Whoever takes it back asks the runner next.
    assert [one.id for one in desk.ran] == [job.id]
    assert await desk.states() == ["queued"]
    assert await desk.held() == QUOTE


async def test_a_job_that_is_taken_back_first_is_not_run_when_it_is_paid_for(desk):
    job = await desk.waiting()
    await desk.pay()
    taken_back = asyncio.create_task(desk.payment_gate.cancel(job.id, KEY.public))
    await asyncio.sleep(0)
    await asyncio.gather(taken_back, desk.payment_gate._decide_on_all(KEY.public, ""))
    assert desk.told == [job.id]
    assert desk.ran == []
    assert await desk.states() == ["cancelled"]
    assert await desk.held() == 0


@pytest.mark.parametrize("decided", [AskTopUp(QUOTE), WaitForTopUp(QUOTE, QUOTE)])
async def test_a_job_whose_payment_comes_between_its_row_and_the_till_runs_at_once(desk, decided):
    job = await desk.taken()
    await desk.pay()
    # Whoever learns of the payment does not find the job yet.
    await desk.payment_gate._watch.credited(Credited(KEY.public, "", "f" * 64, Msat(5_000), False))
    await desk.payment_gate.handle(job, decided)
    assert [one.id for one in desk.ran] == [job.id]
    assert await desk.states() == ["queued"]


async def test_a_long_job_that_waits_for_its_payment_leaves_what_it_says_in_the_journal(desk):
    job = await desk.taken("words " * 2_000)
    await desk.payment_gate.restore(job)
    waits = desk.payment_gate._waiting.get(job.id)
    assert (waits.event, waits.request.job.text) == (None, "")
    await desk.pay()
    await desk.payment_gate._decide_on_all(KEY.public, "")
    assert [one.id for one in desk.ran] == [job.id]
    assert await desk.states() == ["queued"]


async def test_a_job_that_has_ended_holds_nothing_when_it_is_decided_on(desk):
    job = await desk.waiting()
    await desk.pay()
    await desk.settlement.end(job.id, JobState.EXPIRED, code="expired", finished_at=2.0)
    await desk.payment_gate._decide_on_all(KEY.public, "")
    assert desk.ran == [] and desk.payment_gate.waiting == 0
    assert await desk.held() == 0


async def test_a_job_that_has_ended_is_never_charged(desk):
    job = await desk.waiting()
    await desk.pay()
    assert isinstance(await desk.settlement.decide(job), Run)
    async with desk.database.transaction() as tx:
        # What no code of ours does.
        await tx.execute("UPDATE job SET state = 'cancelled'")
    with pytest.raises(MoneyError):
        await desk.settlement.finish(job, Work(3, 2, 5, 2.0), lambda _: job.event)
    assert await desk.database.fetch_all("SELECT * FROM money_receipt") == []


async def test_whoever_takes_a_job_back_waits_for_one_decision_and_not_for_those_on_all_jobs(desk):
    jobs = [await desk.waiting(f"job {n}") for n in range(5)]
    await desk.pay(20_000)
    paid = asyncio.create_task(desk.payment_gate._decide_on_all(KEY.public, ""))
    await asyncio.sleep(0)
    await desk.payment_gate.cancel(jobs[-1].id, KEY.public)
    await paid
    assert [one.id for one in desk.ran] == [job.id for job in jobs[:-1]]
    assert (await desk.states())[-1] == "cancelled"


async def test_strangers_fill_the_place_for_what_waits_and_whoever_has_paid_before_finds_room(desk):
    for text in "abc":
        await desk.payment_gate.handle(await desk.taken(text), WaitForTopUp(QUOTE, QUOTE))
    assert desk.errors == ["busy"]
    assert (await desk.states())[-1] == "failed"
    await desk.payment_gate.handle(await desk.taken("dear"), TooMuch())
    assert desk.errors.pop() == "credit_exhausted"
    await desk.pay(1_000, key=OTHER)
    await desk.payment_gate.handle(await desk.taken("d", key=OTHER), WaitForTopUp(QUOTE, QUOTE))
    assert desk.errors == ["busy"]
    assert desk.payment_gate.of_customer(OTHER.public) == 1


async def test_a_job_waits_for_its_payment_as_long_as_an_invoice_may_be_paid(desk, monkeypatch):
    monkeypatch.setattr(payment_watch, "TICK_S", 0.01)
    late = await desk.waiting("late", received_at=desk.clock.wall() - waiting.PATIENCE_S)
    early = await desk.waiting("early", received_at=desk.clock.wall() - waiting.PATIENCE_S + 60)
    await desk.payment_gate.start()
    await until(lambda: desk.payment_gate.waiting <= 1)
    assert await desk.states() == ["expired", "awaiting_funds"]
    assert desk.errors == ["payment_timeout"]
    assert desk.payment_gate.has(early.id) and not desk.payment_gate.has(late.id)
    await desk.payment_gate.close()
