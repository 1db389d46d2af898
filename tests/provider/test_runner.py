"""The runner by itself, with an engine and a relay that do what a test says."""

import asyncio
import sqlite3
import time
from types import SimpleNamespace

import pytest

from pylon.clock import SystemClock
from pylon.errors import EngineFailedError, PromptError
from pylon.inference.engine import Progress
from pylon.jobs.cancel import cancel_draft
from pylon.jobs.parameters import JobParameters
from pylon.jobs.request import JobRequest, ReceivedRequest, private_draft
from pylon.jobs.result import Finish, parse_result
from pylon.money import audit
from pylon.money.accounts.account import Terms
from pylon.money.accounts.usage import Usage
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.money.schema import MONEY
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event, EventDraft, Tag
from pylon.nostr.keys import SecretKey
from pylon.provider.admission import Accept
from pylon.provider.contents import Contents
from pylon.provider.customers import WASTED, Customers, Standing
from pylon.provider.journal import Journal
from pylon.provider.payments.settlement import AccountSettlement, CreditPolicy
from pylon.provider.queue import Job
from pylon.provider.rows import SCHEMA
from pylon.provider.work.active_jobs import ActiveJobs
from pylon.provider.work.results import Results
from pylon.provider.work.runner import Runner
from pylon.store.database import Database
from pylon.store.group import GroupCommit
from tests.money import accounts
from tests.waiting import until

US, CUSTOMER, OTHER = (SecretKey(bytes(31) + bytes([n])) for n in (7, 8, 9))
# One msat a token of the answer.
PRICE = Price(Msat(0), Msat(0), Msat(1_000))


class Engine:
    """A stand-in that answers when it is told to."""

    slots, model = 1, None

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer = asyncio.Event()
        self.progress = None
        self.error: Exception | None = None

    async def generate(self, request, progress):
        self.asked.append(request.id)
        self.progress = progress
        await self.answer.wait()
        if self.error is not None:
            raise self.error
        return SimpleNamespace(text="an answer", prompt_tokens=1, completion_tokens=20, run_ms=1, finish="stop")


class Replies:
    """A stand-in that remembers what was said."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.reasons: list[str] = []
        self.pieces: list[str] = []
        # Whether relays take what is sent.
        self.arrives = True

    def processing(self, request, relay, wait_s=None) -> None:
        pass

    def partial(self, request, relay, text, offset, deadline, sent) -> None:
        self.pieces.append(text)
        if self.arrives:
            sent()

    def refuse(self, refusal) -> None:
        self.errors.append(refusal.code.value)
        self.reasons.append(refusal.reason)

    def refusal(self, refusal) -> None:
        pass


class Outbox:
    """A stand-in that remembers what was published."""

    def __init__(self) -> None:
        self.published: list[Event] = []

    def event_bytes(self, relay):
        return 65_536

    async def publish_and_wait(self, publication) -> bool:
        self.published.append(publication.event)
        return True

    def put(self, publication) -> None:
        self.published.append(publication.event)


class Stage:
    """A runner and what it stands on."""

    def __init__(self, database, group) -> None:
        self.database, self.group = database, group
        self.engine, self.replies, self.outbox = Engine(), Replies(), Outbox()
        self.journal = journal = Journal(database, group)
        self.settlement = AccountSettlement(journal, CreditPolicy(stranger=Terms(credit=Msat(4_000)), trial=None))
        clock, self.customers = SystemClock(), Customers()
        results = Results(
            secret=US,
            keys=ConversationKeys(US),
            inference=self.engine,
            journal=journal,
            settlement=self.settlement,
            outbox=self.outbox,
            replies=self.replies,
            clock=clock,
            customers=self.customers,
        )
        self.runner = Runner(
            inference=self.engine,
            journal=journal,
            contents=Contents(journal, ConversationKeys(US)),
            results=results,
            replies=self.replies,
            clock=clock,
            processing_after_s=60.0,
        )

    async def add(
        self,
        text: str,
        secret: SecretKey = CUSTOMER,
        *,
        stream: bool = False,
        quote: int = 2_000,
        tags: tuple[Tag, ...] = (),
        **changes,
    ) -> Job:
        now = int(time.time())
        event = secret.sign(EventDraft(5940, text, tags, created_at=now))
        asked = JobRequest(text, JobParameters(stream=stream))
        request = ReceivedRequest(event.id, event.pubkey, now, asked, True, (US.public,))
        job = Job(request, event, Accept(Msat(quote), now + 60, "m", 40, PRICE), now, "ws://r", **changes)
        await self.settlement.take(job)
        self.runner.add(job)
        return job

    async def idle(self) -> None:
        async with asyncio.timeout(10):
            await self.runner.wait_idle()

    async def states(self) -> list[str]:
        return [row["state"] for row in await self.database.fetch_all("SELECT state FROM job ORDER BY rowid")]

    async def account(self):
        return await accounts.load(self.database, CUSTOMER.public)


@pytest.fixture
async def stage(tmp_path):
    database = await Database.open(tmp_path / "a.db", [SCHEMA, MONEY])
    group = GroupCommit(database)
    group.start()
    stage = Stage(database, group)
    yield stage
    await stage.runner.close()
    await group.close()
    async with database.transaction() as tx:
        assert audit.examine(await audit.collect(tx)) == []
    await database.close()


async def test_somebody_elses_cancellation_leaves_a_job_at_its_place(stage):
    running = await stage.add("running")
    mine = await stage.add("mine")
    theirs = await stage.add("theirs", OTHER)
    await stage.runner.cancel(mine.id, OTHER.public)
    stage.engine.answer.set()
    await stage.idle()
    assert stage.engine.asked == [running.id, mine.id, theirs.id]


async def test_a_job_that_ends_in_an_error_of_ours_has_failed_and_holds_nothing(stage):
    async def finish(*_):
        raise sqlite3.OperationalError("database or disk is full")

    stage.settlement.finish = finish
    stage.engine.answer.set()
    await stage.add("unlucky")
    await stage.idle()
    assert stage.replies.errors == ["engine_failed"]
    assert await stage.states() == ["failed"]
    assert (await stage.account()).held == 0


@pytest.mark.parametrize(("hint", "reason"), [("Send less.", "it is long. Send less."), ("", "it is long")])
async def test_whose_prompt_is_too_long_hears_what_would_fit(stage, hint, reason):
    stage.engine.error = PromptError("it is long", hint=hint)
    stage.engine.answer.set()
    await stage.add("long")
    await stage.idle()
    assert (stage.replies.errors, stage.replies.reasons) == (["too_large"], [reason])


async def test_an_error_that_no_engine_should_raise_costs_its_job_and_no_other(stage):
    stage.engine.error = RuntimeError("a bug")
    stage.engine.answer.set()
    await stage.add("unlucky")
    await stage.idle()
    stage.engine.error = None
    await stage.add("lucky")
    await stage.idle()
    assert await stage.states() == ["failed", "signed"]


async def test_a_result_that_was_written_down_is_published_though_its_write_was_said_to_have_failed(stage):
    finish = stage.settlement.finish

    async def said_to_fail(*args):
        await finish(*args)
        raise sqlite3.OperationalError("it is not known whether this was stored")

    stage.settlement.finish = said_to_fail
    stage.engine.answer.set()
    await stage.add("lucky")
    await stage.idle()
    assert len(stage.outbox.published) == 1
    assert stage.replies.errors == []
    assert await stage.states() == ["signed"]


async def test_a_customer_hears_no_end_that_is_not_written_down_since_a_restart_may_answer_after_all(stage):
    async def fails(*_, **__):
        raise sqlite3.OperationalError("database or disk is full")

    stage.settlement.finish = stage.settlement.end = fails
    stage.engine.answer.set()
    await stage.add("unlucky")
    await stage.idle()
    assert stage.replies.errors == []
    assert not stage.runner.running
    # The next start takes it up again.
    assert await stage.states() == ["queued"]


async def test_a_job_that_is_taken_back_while_its_failure_is_written_down_has_failed(stage):
    writing, written, end = asyncio.Event(), asyncio.Event(), stage.settlement.end

    async def slow(*args, **named):
        writing.set()
        await written.wait()
        await end(*args, **named)

    stage.settlement.end = slow
    stage.engine.error = EngineFailedError("broken")
    stage.engine.answer.set()
    job = await stage.add("unlucky")
    await writing.wait()
    await stage.runner.cancel(job.id, CUSTOMER.public)
    written.set()
    await stage.idle()
    assert stage.replies.errors == ["engine_failed"]
    assert await stage.states() == ["failed"]
    assert (await stage.account()).held == 0


async def begun(stage) -> None:
    await until(lambda: stage.engine.asked)


async def test_what_was_streamed_of_a_job_that_is_taken_back_is_charged_and_no_more(stage):
    job = await stage.add("tell a story", stream=True)
    await begun(stage)
    stage.engine.progress(Progress(job.id, "Once upon", 7, 30))
    # Within half a second nothing more is sent.
    stage.engine.progress(Progress(job.id, "Once upon a time", 9, 30))
    await stage.runner.cancel(job.id, CUSTOMER.public)
    await stage.runner.cancel(job.id, CUSTOMER.public)
    await stage.idle()
    assert stage.replies.pieces == ["Once upon"]
    account = await stage.account()
    assert (account.charged_total, account.held) == (7, 0)
    assert await stage.states() == ["signed"]
    # With the receipt, without which the next one would not follow.
    (event,) = stage.outbox.published
    result = parse_result(event, ConversationKeys(CUSTOMER))
    assert (result.text, result.finish, result.account.charge_msat) == ("", Finish.CANCELLED, 7)
    assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (30, 7)


async def test_what_no_relay_took_of_a_job_that_is_taken_back_costs_nothing(stage):
    stage.replies.arrives = False
    job = await stage.add("tell a story", stream=True)
    await begun(stage)
    stage.engine.progress(Progress(job.id, "Once upon", 7))
    await stage.runner.cancel(job.id, CUSTOMER.public)
    await stage.idle()
    assert await stage.states() == ["cancelled"]
    assert ((await stage.account()).held, stage.outbox.published) == (0, [])


async def test_a_running_job_that_is_taken_back_before_anything_was_sent_costs_nothing(stage):
    job = await stage.add("tell a story", stream=True)
    await begun(stage)
    await stage.runner.cancel(job.id, CUSTOMER.public)
    await stage.idle()
    assert await stage.states() == ["cancelled"]
    assert ((await stage.account()).held, stage.outbox.published) == (0, [])


@pytest.mark.parametrize(("quote", "standing"), [(1_000, Standing.STRANGER), (0, Standing.RECENT)])
async def test_who_takes_priced_jobs_back_again_and_again_once_the_model_works_waits_among_strangers(
    stage, quote, standing
):
    stage.customers.served(CUSTOMER.public, 0.0)
    for n in range(WASTED):
        job = await stage.add(f"story {n}", quote=quote)
        await until(lambda job=job: job.id in stage.runner.running)
        await stage.runner.cancel(job.id, CUSTOMER.public)
        await stage.idle()
    assert await stage.states() == ["cancelled"] * WASTED
    assert stage.customers.standing(CUSTOMER.public) is standing


async def test_a_free_job_that_is_taken_back_while_it_is_streamed_has_no_result(stage):
    job = await stage.add("tell a story", stream=True, quote=0)
    await begun(stage)
    stage.engine.progress(Progress(job.id, "Once upon", 7))
    await stage.runner.cancel(job.id, CUSTOMER.public)
    await stage.idle()
    assert await stage.states() == ["cancelled"]
    assert stage.outbox.published == []


async def test_somebody_elses_cancellation_of_a_job_that_is_streamed_changes_nothing(stage):
    job = await stage.add("tell a story", stream=True)
    await begun(stage)
    stage.engine.progress(Progress(job.id, "Once upon", 7))
    await stage.runner.cancel(job.id, OTHER.public)
    stage.engine.answer.set()
    await stage.idle()
    (event,) = stage.outbox.published
    assert parse_result(event, ConversationKeys(CUSTOMER)).finish is Finish.STOP
    assert (await stage.account()).charged_total == 20


async def test_that_an_answer_goes_out_in_pieces_is_on_disk_before_the_first_is_out(stage):
    await stage.add("tell a story", stream=True)
    await stage.add("be quick")
    await begun(stage)
    found = await stage.database.fetch_all("SELECT begun FROM job ORDER BY rowid")
    assert [row["begun"] for row in found] == [1, 0]


async def test_an_answer_of_which_that_cannot_be_written_down_comes_whole(stage, monkeypatch):
    async def fails(_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(stage.journal, "begun", fails)
    await stage.add("tell a story", stream=True)
    await begun(stage)
    assert stage.engine.progress is None
    stage.engine.answer.set()
    await stage.idle()
    assert await stage.states() == ["signed"]


async def test_a_job_that_an_earlier_process_began_sends_no_pieces_and_owes_those_that_were_sent(stage):
    job = await stage.add("tell a story", stream=True, sent=Usage(30, 7), again=True)
    await begun(stage)
    assert stage.engine.progress is None
    await stage.runner.cancel(job.id, CUSTOMER.public)
    await stage.idle()
    assert stage.replies.pieces == []
    assert (await stage.account()).charged_total == 7


async def test_a_long_job_that_waits_is_read_again_for_what_it_owes_when_it_is_taken_back(stage):
    await stage.add("runs")
    await begun(stage)
    sealed = private_draft(JobRequest("a story " * 2_000), US.public, ConversationKeys(CUSTOMER), created_at=1)
    job = await stage.add(sealed.content, tags=sealed.tags, sent=Usage(30, 7), again=True)
    assert stage.runner.queue.get(job.id).event is None
    await stage.runner.cancel(job.id, CUSTOMER.public)
    assert (await stage.account()).charged_total == 7
    stage.engine.answer.set()
    await stage.idle()


async def test_jobs_that_wait_and_are_taken_back_together_share_a_flush(stage, monkeypatch):
    await stage.add("runs", quote=0)
    jobs = [await stage.add(f"waits {n}", quote=0) for n in range(40)]
    flushes, transaction = [], stage.database.transaction_here

    def counted():
        flushes.append(1)
        return transaction()

    monkeypatch.setattr(stage.database, "transaction_here", counted)
    cancellation = CUSTOMER.sign(cancel_draft(tuple(job.id for job in jobs), 5940, US.public, created_at=1))
    assert await ActiveJobs(payment_gate=None, runner=stage.runner).take_back(cancellation) == []
    assert len(flushes) <= 2
    assert sorted(await stage.states()) == ["cancelled"] * 40 + ["queued"]
    stage.engine.answer.set()
    await stage.idle()
