"""How a job ends: what its result says, what is written before anything is told, and for how long it is published."""

from dataclasses import replace
from math import inf
from types import SimpleNamespace

import pytest

from pylon.errors import WireError
from pylon.jobs.codes import ErrorCode
from pylon.jobs.request import JobRequest, ReceivedRequest
from pylon.jobs.result import Finish, parse_result
from pylon.money.accounts.receipt import AccountReceipt
from pylon.money.accounts.usage import Usage
from pylon.money.msat import Msat
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import EventDraft, expiration
from pylon.nostr.keys import SecretKey
from pylon.provider.admission import Accept
from pylon.provider.customers import Customers
from pylon.provider.queue import Job
from pylon.provider.refusal import Refusal
from pylon.provider.rows import JobState, Work
from pylon.provider.work.results import REPEAT_S, Results
from tests.manual_clock import ManualClock

US, CUSTOMER = (SecretKey(bytes(31) + bytes([n])) for n in (7, 8))
RECEIPT = AccountReceipt("0" * 16, 1, 1_000, Msat(1_000), Msat(3_000))
USAGE = Usage(30, 7)


class Stage:
    """Results, and stand-ins that note in which order they are called."""

    def __init__(self) -> None:
        self.clock, self.said, self.publications = ManualClock(), [], []
        self.limit, self.broken, self.known_result = 65_536, False, None
        self.feedback = US.sign(EventDraft(7000, "cancelled", created_at=1))
        self.model = SimpleNamespace(id="m", sha256="ab" * 32, quantization="f32")
        self.results = Results(
            secret=US,
            keys=ConversationKeys(US),
            inference=self,
            journal=self,
            settlement=self,
            outbox=self,
            replies=self,
            clock=self.clock,
            customers=Customers(),
        )
        now = int(self.clock.wall())
        event = CUSTOMER.sign(EventDraft(5940, "sealed", created_at=now - 10))
        request = ReceivedRequest(event.id, event.pubkey, now - 10, JobRequest("prompt"), True, (US.public,))
        self.job = Job(request, event, Accept(Msat(2_000), now + 60, "m", 40), now - 10.0, "ws://r")

    # As a settlement.
    async def finish(self, job, work, sign):
        self.work = work
        return sign(RECEIPT)

    async def end(self, job_id, state, *, code, finished_at, feedback=None, wasted=False) -> None:
        if self.broken:
            raise OSError("the disk is full")
        self.said.append(("written", state, code, feedback))

    # As a journal.
    async def known(self, ids):
        return {} if self.known_result is None else {ids[0]: self.known_result}

    def settled(self, job_id) -> None:
        self.said.append(("settled", job_id))

    def undelivered(self, job_id) -> None:
        self.said.append(("undelivered", job_id))

    # As an outbox.
    def event_bytes(self, relay) -> int:
        assert relay == "ws://r"
        return self.limit

    def put(self, publication) -> None:
        self.publications.append(publication)

    async def publish_and_wait(self, publication) -> bool:
        self.publications.append(publication)
        return True

    def drop_error(self, job_id) -> None:
        self.said.append(("told", job_id))

    # As replies.
    def refusal(self, refusal):
        assert refusal == Refusal.of(self.job, ErrorCode.CANCELLED, "it costs nothing")
        return self.feedback

    def refuse(self, refusal) -> None:
        self.said.append(("told", refusal.id, refusal.code, refusal.reason))


@pytest.fixture
def stage():
    return Stage()


def read(event):
    return parse_result(event, ConversationKeys(CUSTOMER))


async def test_a_result_says_what_was_answered_by_which_model_at_what_cost_and_how_long_it_took(stage):
    event = await stage.results.sign(stage.job, "eight", Finish.STOP, USAGE, 4_000)
    result = read(event)
    assert (result.text, result.finish, result.usage, result.account) == ("eight", Finish.STOP, USAGE, RECEIPT)
    assert (result.model.id, result.model.sha256) == ("m", "ab" * 32)
    # It came ten seconds ago, and ran for four.
    assert (result.timing.queue_ms, result.timing.run_ms) == (6_000, 4_000)
    assert (event.kind, event.tag("e"), event.pubkey) == (6940, stage.job.id, US.public)
    assert stage.work == Work(30, 7, 4_000, stage.clock.wall())


async def test_a_result_is_kept_for_an_hour_after_the_deadline_or_after_now_if_that_has_passed(stage):
    event = await stage.results.sign(stage.job, "eight", Finish.STOP, USAGE, 0)
    assert expiration(event) == stage.job.terms.expires_at + 3_600
    stage.clock.advance(100)
    event = await stage.results.sign(stage.job, "eight", Finish.STOP, USAGE, 0)
    assert expiration(event) == stage.clock.wall() + 3_600


async def test_a_result_of_a_model_that_is_gone_names_none(stage):
    stage.model = None
    assert read(await stage.results.sign(stage.job, "", Finish.CANCELLED, USAGE, 0)).model is None


async def test_no_result_is_made_of_a_text_that_no_event_of_the_relay_holds(stage):
    stage.limit = 300
    with pytest.raises(WireError):
        await stage.results.sign(stage.job, "x" * 5_000, Finish.STOP, USAGE, 0)


async def test_a_customer_is_told_that_there_is_no_result_once_that_is_written(stage):
    await stage.results.end_without(stage.job, JobState.FAILED, ErrorCode.BUSY, "full")
    assert stage.said == [
        ("written", JobState.FAILED, "busy", None),
        ("told", stage.job.id, ErrorCode.BUSY, "full"),
    ]


async def test_whoever_took_back_what_is_free_is_told_nothing(stage):
    free = replace(stage.job, terms=replace(stage.job.terms, quote=Msat(0)))
    await stage.results.end_without(free, JobState.CANCELLED, ErrorCode.CANCELLED, "")
    assert stage.said == [("written", JobState.CANCELLED, "cancelled", None)]
    assert stage.publications == []


async def test_whoever_took_its_job_back_is_told_that_it_costs_nothing_once_that_is_written_and_until_a_relay_has_it(
    stage,
):
    await stage.results.end_without(stage.job, JobState.CANCELLED, ErrorCode.CANCELLED, "")
    assert stage.said == [("written", JobState.CANCELLED, "cancelled", stage.feedback)]
    [publication] = stage.publications
    assert (publication.event, publication.relay, publication.give_up_after_s) == (stage.feedback, "ws://r", inf)
    publication.done(True)
    assert stage.said[1:] == [("told", stage.job.id)]
    stage.broken = True
    await stage.results.end_without(stage.job, JobState.CANCELLED, ErrorCode.CANCELLED, "")
    assert stage.publications == [publication]


async def test_of_an_end_that_is_not_on_disk_nobody_hears(stage):
    stage.broken = True
    await stage.results.end_without(stage.job, JobState.FAILED, ErrorCode.BUSY, "full")
    with pytest.raises(OSError, match="full"):
        await stage.results.end(stage.job, JobState.FAILED, ErrorCode.BUSY, "full")
    assert stage.said == []


@pytest.mark.parametrize("published", [True, False])
async def test_a_published_result_settles_its_job_and_one_that_expired_first_does_not(stage, published):
    event = await stage.results.sign(stage.job, "eight", Finish.STOP, USAGE, 0)
    stage.results.publish(event, stage.job.id, "ws://r")
    assert await stage.results.publish_and_wait(event, stage.job)
    for publication in stage.publications:
        assert (publication.event, publication.relay, publication.give_up_after_s) == (event, "ws://r", inf)
        publication.done(published)
    assert stage.said == [("settled" if published else "undelivered", stage.job.id)] * 2


async def test_a_repeated_result_is_for_whoever_waits_now_and_changes_nothing_of_its_job(stage):
    event = await stage.results.sign(stage.job, "eight", Finish.STOP, USAGE, 0)
    stage.results.repeat(event, "ws://other")
    (publication,) = stage.publications
    assert (publication.event, publication.relay, publication.done) == (event, "ws://other", None)
    assert publication.give_up_after_s == REPEAT_S


async def test_the_result_that_stands_in_the_journal_is_found(stage):
    assert await stage.results.written(stage.job.id) is None
    stage.known_result = stage.job.event
    assert await stage.results.written(stage.job.id) == stage.job.event
