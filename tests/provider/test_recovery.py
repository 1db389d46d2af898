"""What the last process left is taken up, and whoever is not served any more hears why, once, whatever crashes."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pylon.jobs.codes import ErrorCode
from pylon.jobs.feedback import parse_feedback
from pylon.jobs.parameters import JobParameters
from pylon.jobs.request import JobRequest, private_draft
from pylon.money.accounts.account import AskTopUp, Terms
from pylon.money.accounts.usage import Usage
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.money.schema import MONEY
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool_subscription import Received
from pylon.provider.admission import Load
from pylon.provider.customers import Customers
from pylon.provider.journal import Journal
from pylon.provider.judge import Judge
from pylon.provider.payments.settlement import AccountSettlement, CreditPolicy
from pylon.provider.recovery import Recovery
from pylon.provider.replies import Replies
from pylon.provider.rows import SCHEMA, JobState, Work
from pylon.provider.settings import ProviderSettings
from pylon.provider.work.results import Results
from tests.manual_clock import ManualClock
from tests.opened import opened_database

US, CUSTOMER = (SecretKey(bytes(31) + bytes([n])) for n in (7, 8))
SHA256 = "9f" * 32
SETTINGS = ProviderSettings(price=Price(Msat(1_000), Msat(0), Msat(0)))


class Outbox:
    """A stand-in for relays that take what they are told to."""

    def __init__(self) -> None:
        self.publications = []

    def event_bytes(self, relay):
        return 65_536

    def put(self, publication) -> None:
        self.publications.append(publication)


class ActiveJobs:
    """A stand-in that keeps what it is given."""

    def __init__(self, takes_payment: bool) -> None:
        self.takes_payment = takes_payment
        self.restored = []

    async def restore(self, job, state) -> None:
        self.restored.append((job, state))


class Process:
    """One life of a provider, as far as it takes up what the one before it left."""

    def __init__(self, database, group, clock, settings, model, longest, takes_payment) -> None:
        self.journal = Journal(database, group)
        self.group = group
        self.outbox, self.active_jobs, self.followed = Outbox(), ActiveJobs(takes_payment), []
        keys = ConversationKeys(US)
        # A stranger has a job on credit, and the next one has to be paid for.
        policy = CreditPolicy(stranger=Terms(credit=Msat(1_000)), trial=None)
        self.settlement = AccountSettlement(self.journal, policy)
        replies = Replies(
            secret=US, keys=keys, outbox=self.outbox, clock=clock, trusted=settings.trusted.__contains__
        )
        self.results = Results(
            secret=US,
            keys=keys,
            inference=SimpleNamespace(model=None),
            journal=self.journal,
            settlement=self.settlement,
            outbox=self.outbox,
            replies=replies,
            clock=clock,
            customers=Customers(),
        )
        self.judge = Judge(
            provider=US.public,
            keys=keys,
            settings=settings,
            clock=clock,
            load=lambda *_: Load((model,), max_completion_tokens=longest),
        )
        self.recovery = Recovery(
            journal=self.journal,
            judge=self.judge,
            active_jobs=self.active_jobs,
            open_cancels=SimpleNamespace(add=self.followed.append),
            results=self.results,
        )

    async def take(self, event):
        """A job of this request, on disk."""
        job = self.judge.judge(Received(event, "ws://r"), [])
        await self.settlement.take(job)
        return job

    async def written(self) -> None:
        """What nobody waits for is on disk too."""
        await self.group.execute("SELECT 1", ())


class Machine:
    """A disk and a clock, on which processes follow each other; none of them is ever told that it ends."""

    def __init__(self, database, group) -> None:
        self.database, self.group, self.clock = database, group, ManualClock()

    def starts(self, settings=SETTINGS, *, model=("m", SHA256), longest=0, takes_payment=True) -> Process:
        return Process(self.database, self.group, self.clock, settings, model, longest, takes_payment)

    async def rows(self):
        found = await self.database.fetch_all("SELECT id, state, code FROM job ORDER BY rowid")
        return [(row["state"], row["code"]) for row in found]

    def request(self, text="prompt", *, expires_in=600, bid=None, **parameters):
        now = int(self.clock.wall())
        asked = JobParameters(**{"max_tokens": 8, **parameters})
        job = JobRequest(text, asked, expiration=now + expires_in, bid=bid)
        return CUSTOMER.sign(private_draft(job, US.public, ConversationKeys(CUSTOMER), created_at=now))


@pytest.fixture
async def machine(tmp_path):
    async with opened_database(tmp_path / "a.db", SCHEMA, MONEY) as (database, group):
        yield Machine(database, group)


def told(process: Process):
    """What was sent of jobs that are not done: (code, words), by request."""
    found = {}
    for publication in process.outbox.publications:
        feedback = parse_feedback(publication.event, ConversationKeys(CUSTOMER))
        found[feedback.address.request] = (feedback.code, feedback.text)
    return found


async def test_jobs_are_taken_up_in_the_order_in_which_they_came_each_as_it_stood(machine):
    before = machine.starts()
    runs = await before.take(machine.request("a"))
    machine.clock.advance(1)
    waits = await before.take(machine.request("b"))
    await before.journal.begun(runs.id)
    before.journal.sent(runs.id, Usage(5, 3))
    await before.written()
    after = machine.starts()
    await after.recovery.run()
    restored = [(job.id, state, job.received_at) for job, state in after.active_jobs.restored]
    assert restored == [
        (runs.id, JobState.QUEUED, runs.received_at),
        (waits.id, JobState.AWAITING_FUNDS, waits.received_at),
    ]
    assert [(job.again, job.sent) for job, _ in after.active_jobs.restored] == [(True, Usage(5, 3)), (False, None)]
    assert [job.id for job in after.followed] == [runs.id, waits.id]
    assert after.outbox.publications == []


async def test_what_waits_for_a_payment_may_run_where_none_is_taken_any_more(machine):
    before = machine.starts()
    for text in "ab":
        await before.take(machine.request(text))
    await machine.starts(takes_payment=True).recovery.run()
    assert await machine.rows() == [("queued", ""), ("awaiting_funds", "")]
    await machine.starts(takes_payment=False).recovery.run()
    assert await machine.rows() == [("queued", ""), ("queued", "")]


async def test_a_signed_result_goes_out_again_as_the_very_same_event_until_a_relay_has_it(machine):
    before = machine.starts()
    job = await before.take(machine.request())
    result = US.sign(EventDraft(6940, "sealed", (("e", job.id),), 1))
    await before.journal.signed(job.id, result, Work(3, 2, 5, 2.0))
    for _ in range(2):
        after = machine.starts()
        await after.recovery.run()
        assert [(publication.event, publication.relay) for publication in after.outbox.publications] == [
            (result, "ws://r")
        ]
        assert after.active_jobs.restored == []
    after.outbox.publications[0].done(True)
    await after.written()
    assert await machine.rows() == [("settled", "")]


@pytest.mark.parametrize(
    ("changes", "code", "state", "words"),
    [
        ({"max_prompt_bytes": 3}, ErrorCode.TOO_LARGE, "failed", "prompts may have at most 3 bytes here"),
        ({"kinds": frozenset({5050})}, ErrorCode.UNSUPPORTED_KIND, "failed", "kind 5940 is not served here"),
    ],
)
async def test_whoever_is_not_served_after_a_restart_hears_why(machine, changes, code, state, words):
    job = await machine.starts().take(machine.request())
    after = machine.starts(replace(SETTINGS, **changes))
    await after.recovery.run()
    assert told(after) == {job.id: (code, words)}
    assert [publication.relay for publication in after.outbox.publications] == ["ws://r"]
    assert await machine.rows() == [(state, code.value)]
    assert after.active_jobs.restored == after.followed == []


async def test_whose_deadline_passed_while_nobody_was_here_hears_that_it_expired(machine):
    job = await machine.starts().take(machine.request(expires_in=60))
    machine.clock.advance(61)
    after = machine.starts()
    await after.recovery.run()
    assert told(after)[job.id][0] is ErrorCode.EXPIRED
    assert await machine.rows() == [("expired", "expired")]


@pytest.mark.parametrize(("expires_in", "kept"), [(86_400, 3_600), (50, 50)])
async def test_a_job_that_ends_every_process_that_takes_it_up_ends_when_it_was_to(machine, expires_in, kept):
    job = await machine.starts().take(machine.request(expires_in=expires_in))
    assert job.terms.expires_at == int(machine.clock.wall()) + kept
    for _ in range(4):
        machine.clock.advance(kept / 5)
        after = machine.starts()
        await after.recovery.run()
        assert [one.terms.expires_at for one, _ in after.active_jobs.restored] == [job.terms.expires_at]
    machine.clock.advance(kept / 5)
    after = machine.starts()
    await after.recovery.run()
    assert after.active_jobs.restored == []
    assert told(after) == {job.id: (ErrorCode.EXPIRED, "the deadline passed before the job was done")}
    assert await machine.rows() == [("expired", "expired")]


async def test_whose_request_cannot_be_read_any_more_hears_so(machine):
    job = await machine.starts().take(machine.request())
    broken = CUSTOMER.sign(EventDraft(5940, "no sealed text", job.event.tags, job.event.created_at))
    async with machine.database.transaction() as tx:
        await tx.execute("UPDATE job SET id = ?, request = ?", (broken.id, broken.to_json()))
    after = machine.starts()
    await after.recovery.run()
    assert {request: code for request, (code, _) in told(after).items()} == {broken.id: ErrorCode.UNDECRYPTABLE}
    assert await machine.rows() == [("failed", "undecryptable")]


async def test_the_money_of_a_job_that_is_not_done_any_more_is_let_go(machine):
    await machine.starts().take(machine.request())
    holds = "SELECT state FROM money_hold"
    assert [row["state"] for row in await machine.database.fetch_all(holds)] == ["held"]
    await machine.starts(replace(SETTINGS, max_prompt_bytes=3)).recovery.run()
    assert "held" not in [row["state"] for row in await machine.database.fetch_all(holds)]


@pytest.mark.parametrize("bid", [None, Msat(820)])
@pytest.mark.parametrize("model", [("m", SHA256), ("m", "")])
async def test_a_job_that_is_taken_up_costs_what_it_was_taken_on_for_whatever_is_asked_today(machine, bid, model):
    then = replace(SETTINGS, price=Price(Msat(500), Msat(0), Msat(40_000)))
    before = machine.starts(then)
    runs = await before.take(machine.request("a", bid=bid))
    machine.clock.advance(1)
    waits = await before.take(machine.request("b", bid=bid))
    dearer = replace(then, price=Price(Msat(900), Msat(1_000), Msat(200_000)), max_tokens=4_096)
    after = machine.starts(dearer, model=model)
    await after.recovery.run()
    (again, _), (still_waits, _) = after.active_jobs.restored
    assert [again.terms, still_waits.terms] == [runs.terms, waits.terms]
    assert again.terms.quote == 820
    receipts = []

    def sign(receipt):
        receipts.append(receipt)
        return US.sign(EventDraft(6940, "sealed", (("e", runs.id),), 1))

    await after.settlement.finish(again, Work(6, 2, 5, 2.0), sign)
    assert [receipt.charge_msat for receipt in receipts] == [580]
    # What waits for its payment is asked for the same sum as before: its customer would pay no other.
    decision = await after.settlement.decide(still_waits)
    assert decision == await before.settlement.decide(waits) == AskTopUp(Msat(1_000))


async def test_an_answer_is_no_longer_than_was_quoted_though_nobody_knows_yet_how_long_the_models_may_be(machine):
    short = machine.starts(longest=8)
    job = await short.take(machine.request(max_tokens=100))
    assert job.terms.max_tokens == 8
    loading = machine.starts(longest=0)
    await loading.recovery.run()
    assert [one.terms for one, _ in loading.active_jobs.restored] == [job.terms]


async def test_a_job_of_which_an_older_journal_says_no_price_is_done_for_todays(machine):
    await machine.starts().take(machine.request())
    async with machine.database.transaction() as tx:
        await tx.execute("UPDATE job SET quote_msat = NULL", ())
    after = machine.starts(replace(SETTINGS, price=Price(Msat(700), Msat(0), Msat(0))))
    await after.recovery.run()
    assert [job.terms.quote for job, _ in after.active_jobs.restored] == [700]


async def test_a_customer_that_is_not_heard_any_more_hears_nothing(machine):
    await machine.starts().take(machine.request())
    after = machine.starts(replace(SETTINGS, blocked=frozenset({CUSTOMER.public})))
    await after.recovery.run()
    assert after.outbox.publications == [] and after.active_jobs.restored == []
    assert await machine.rows() == [("failed", "")]


async def test_a_word_that_no_relay_had_before_a_crash_goes_out_again_as_the_same_event_and_then_no_more(machine):
    job = await machine.starts().take(machine.request())
    strict = replace(SETTINGS, max_prompt_bytes=3)
    first = machine.starts(strict)
    await first.recovery.run()
    (lost,) = first.outbox.publications
    # Killed before a relay had it. The owner changes the setting back: whoever was told no is not served after all.
    second = machine.starts()
    await second.recovery.run()
    (again,) = second.outbox.publications
    assert (again.event, again.relay) == (lost.event, "ws://r")
    assert second.active_jobs.restored == []
    again.done(True)
    await second.written()
    third = machine.starts()
    await third.recovery.run()
    assert third.outbox.publications == [] and third.active_jobs.restored == []
    assert await machine.rows() == [("failed", "too_large")]
    assert await third.journal.known([job.id]) == {job.id: None}


async def test_whoever_took_its_job_back_hears_that_it_costs_nothing_once_though_its_provider_dies_before(machine):
    first = machine.starts()
    job = await first.take(machine.request())
    await first.results.end_without(job, JobState.CANCELLED, ErrorCode.CANCELLED, "")
    (lost,) = first.outbox.publications
    assert told(first)[job.id][0] is ErrorCode.CANCELLED
    second = machine.starts()
    await second.recovery.run()
    (again,) = second.outbox.publications
    assert (again.event, again.relay) == (lost.event, "ws://r")
    again.done(True)
    await second.written()
    third = machine.starts()
    await third.recovery.run()
    assert third.outbox.publications == [] and third.active_jobs.restored == []
    assert await machine.rows() == [("cancelled", "cancelled")]


async def test_of_what_is_free_and_was_taken_back_nobody_hears_and_of_too_many_words_none(machine):
    trusts = machine.starts(replace(SETTINGS, trusted=frozenset({CUSTOMER.public})))
    free = await trusts.take(machine.request("free"))
    await trusts.results.end_without(free, JobState.CANCELLED, ErrorCode.CANCELLED, "")
    assert trusts.outbox.publications == []
    often = machine.starts()
    job = await often.take(machine.request("often"))
    often.results._replies._budget.allow = lambda *_: False
    await often.results.end_without(job, JobState.CANCELLED, ErrorCode.CANCELLED, "")
    assert often.outbox.publications == []
    assert [state for state, _ in await machine.rows()] == ["cancelled"] * 2


async def test_a_word_that_has_expired_before_a_relay_had_it_is_given_up(machine):
    await machine.starts().take(machine.request())
    after = machine.starts(replace(SETTINGS, max_prompt_bytes=3))
    await after.recovery.run()
    after.outbox.publications[0].done(False)
    await after.written()
    assert [one async for one in after.journal.pending()] == []


async def test_a_key_that_was_told_no_too_often_hears_no_more_and_its_job_ends_all_the_same(machine):
    await machine.starts().take(machine.request())
    after = machine.starts(replace(SETTINGS, max_prompt_bytes=3))
    after.results._replies._budget.allow = lambda *_: False
    await after.recovery.run()
    assert after.outbox.publications == []
    assert await machine.rows() == [("failed", "too_large")]


async def test_a_job_for_named_weights_is_run_though_the_model_is_still_being_loaded(machine):
    job = await machine.starts().take(machine.request(model=f"sha256:{SHA256}"))
    loading = machine.starts(model=("m", ""))
    await loading.recovery.run()
    assert [one.id for one, _ in loading.active_jobs.restored] == [job.id]
    # Of another model, or of other weights that have been read, it is known that they are not meant.
    for model in (("another", ""), ("m", "00" * 32)):
        other = machine.starts(model=model)
        assert other.judge.restore(await anext(other.journal.pending())).code is ErrorCode.UNSUPPORTED_MODEL


async def test_over_a_relay_whoever_is_not_served_after_a_restart_hears_it_once(serve, customer):
    serving = await serve(delay_s=30.0)
    request = await customer.ask(serving.public, customer.job())
    async with asyncio.timeout(10):
        while not await serving.journal.known([request.id]):
            await asyncio.sleep(0.02)
    await serving.stop()
    for _ in range(2):
        again = await serve(secret=serving.secret, max_prompt_bytes=3)
        assert (await customer.refusal(request)).code is ErrorCode.TOO_LARGE
        async with asyncio.timeout(10):
            while [one async for one in again.journal.pending()]:
                await asyncio.sleep(0.02)
        await again.stop()
    assert len(customer.feedback(request)) == 1
