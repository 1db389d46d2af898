"""What a job says is in memory while it runs, and in the journal alone while it waits."""

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.jobs.cancel import cancel_draft
from pylon.jobs.kinds import RLM_REQUEST
from pylon.jobs.parameters import JobParameters
from pylon.jobs.request import JobRequest, open_draft, parse_request, private_draft
from pylon.money.accounts.receipt import AccountSeen
from pylon.money.msat import ZERO, Msat
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool_subscription import Received
from pylon.provider import rows
from pylon.provider.admission import Accept
from pylon.provider.contents import SHORT, Contents, length, put_aside
from pylon.provider.intake import intake as intake_module
from pylon.provider.journal import Journal
from pylon.provider.queue import Job
from pylon.provider.rows import SCHEMA, JobState
from tests.opened import opened_database
from tests.waiting import until

US, CUSTOMER = (SecretKey(bytes(31) + bytes([n])) for n in (7, 8))
KEYS, THEIRS = ConversationKeys(US), ConversationKeys(CUSTOMER)
LONG = "words " * 2_000


def received(asked: JobRequest, *, private: bool = True) -> Job:
    now = int(time.time())
    draft = (
        private_draft(asked, US.public, THEIRS, created_at=now)
        if private
        else open_draft(asked, US.public, salt="1", created_at=now)
    )
    event = CUSTOMER.sign(draft)
    return Job(parse_request(event, KEYS), event, Accept(ZERO, now + 60, "m", 8), float(now), "ws://r")


@pytest.fixture
async def journal(tmp_path):
    async with opened_database(tmp_path / "a.db", SCHEMA) as (database, group):
        yield Journal(database, group)


@pytest.mark.parametrize("private", [True, False])
async def test_a_long_job_is_put_aside_and_read_again_as_it_was(journal, private):
    job = received(JobRequest(LONG, JobParameters(system=LONG, seed=3, stream=True)), private=private)
    await journal.admitted(job)
    waits = put_aside(job)
    assert length(waits) == 0
    assert LONG not in repr(waits)
    assert await Contents(journal, KEYS).whole(waits) == job


async def test_whoever_waits_keeps_what_concerns_its_customer_and_its_account():
    asked = JobRequest(LONG, bid=Msat(9_000), topup=Msat(5_000), account_seen=AccountSeen("e" * 16, 2, Msat(1_000)))
    job = received(asked)
    waits = put_aside(job)
    nothing = {"text": "", "parameters": JobParameters()}
    assert waits.request.job == replace(job.request.job, **nothing)
    assert (waits.id, waits.terms, waits.relay) == (job.id, job.terms, job.relay)
    assert (waits.request.customer, waits.request.private) == (CUSTOMER.public, True)


def test_a_short_job_is_not_worth_opening_twice():
    job = received(JobRequest("a short question"))
    assert put_aside(job) is job


@pytest.mark.parametrize("part", [{"system": LONG}, {"format": "json_schema", "schema": f'"{LONG}"'}])
def test_a_short_prompt_with_long_parameters_is_put_aside_too(part):
    assert length(put_aside(received(JobRequest("short", JobParameters(**part))))) == 0


def test_tags_that_say_next_to_nothing_count_for_what_they_take():
    job = received(JobRequest("short"))
    assert job.event is not None
    many = replace(job, event=replace(job.event, tags=(*job.event.tags, *(("a",),) * 5_000)))
    assert length(put_aside(many)) == 0


@given(st.text(max_size=6_000), st.text(max_size=6_000), st.integers(0, 80))
def test_no_job_that_waits_says_more_than_is_short(text, system, tags):
    job = received(JobRequest("x"))
    assert job.event is not None
    asked = JobRequest(text, JobParameters(system=system))
    event = replace(job.event, tags=(*job.event.tags, *(("t", text[:100]),) * tags))
    full = replace(job, event=event, request=replace(job.request, job=asked))
    waits = put_aside(full)
    assert length(waits) <= SHORT
    assert waits is full or (waits.event, waits.request.job.text) == (None, "")


async def test_what_has_ended_is_not_read_again(journal):
    job = received(JobRequest(LONG))
    await journal.admitted(job)
    await journal.transact(lambda tx: rows.end(tx, job.id, JobState.CANCELLED, code="cancelled", finished_at=1.0))
    with pytest.raises(LookupError):
        await Contents(journal, KEYS).whole(put_aside(job))


async def test_long_jobs_that_wait_are_answered_and_hold_nothing_until_then(serve, customer, monkeypatch):
    serving = await serve(slots=1)
    runner, read, asked, begins = serving.provider._runner, [], [], asyncio.Event()
    request, generate = serving.journal.request, serving.inference.generate

    async def reads(job_id):
        read.append(job_id)
        return await request(job_id)

    async def generates(wanted, progress):
        asked.append(wanted)
        await begins.wait()
        return await generate(wanted, progress)

    monkeypatch.setattr(serving.journal, "request", reads)
    monkeypatch.setattr(serving.inference, "generate", generates)
    jobs = [await customer.ask(serving.public, customer.job(f"{n} {LONG}")) for n in range(3)]
    await until(lambda: len(runner.queue) >= 2)
    assert all(length(job) == 0 for job in runner.queue._jobs.values())
    begins.set()
    for job in jobs:
        assert await customer.result(job)
    assert sorted(wanted.messages[-1].content for wanted in asked) == [f"{n} {LONG}" for n in range(3)]
    # The one that began at once was not opened a second time, and the others once more each.
    assert read == [wanted.id for wanted in asked[1:]]


async def test_a_long_job_that_waits_is_taken_up_after_a_crash_and_answered(serve, customer, tmp_path):
    serving = await serve(delay_s=30.0, slots=1)
    jobs = [await customer.ask(serving.public, customer.job(f"{n} {LONG}")) for n in range(2)]
    await until(lambda: len(serving.provider._runner.queue) >= 1)
    await serving.stop()
    again = await serve(slots=1, secret=serving.secret)
    for job in jobs:
        assert await customer.result(job)
    assert (await again.provider.status()).queued == 0


async def test_a_batch_that_says_much_is_not_opened_all_at_once(serve, customer, monkeypatch):
    serving = await serve(delay_s=30.0, slots=1)
    monkeypatch.setattr(intake_module, "MOST_OPEN", 3 * len(LONG))
    intake = serving.provider._intake
    together, ahead = [], intake._judge.judge

    def judge(one, before):
        together.append(sum(map(length, before)))
        return ahead(one, before)

    monkeypatch.setattr(intake, "_judge", SimpleNamespace(judge=judge))
    now = int(time.time())
    drafts = [
        private_draft(customer.job(f"{n} {LONG}"), serving.public, customer.keys, created_at=now) for n in range(20)
    ]
    events = [customer.secret.sign(draft) for draft in drafts]
    taken_back = customer.secret.sign(cancel_draft((events[7].id,), RLM_REQUEST, serving.public, created_at=now))
    await intake._take([Received(event, "") for event in (*events, taken_back)], live=True)
    assert max(together) < 3 * len(LONG)
    counts = await serving.journal.counts()
    assert counts == {JobState.QUEUED: 19, JobState.CANCELLED: 1}
