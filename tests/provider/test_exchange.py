"""Whole exchanges over a real relay: what a customer sees."""

import asyncio
import sqlite3
import time

import orjson
import pytest

from pylon import forever
from pylon.clock import BELIEVED_S, SystemClock
from pylon.errors import EngineError
from pylon.jobs.cancel import cancel_draft
from pylon.jobs.codes import ErrorCode
from pylon.jobs.feedback import Status
from pylon.jobs.kinds import ANNOUNCEMENT, DELETION, HEARTBEAT, RLM_REQUEST, SCHEMA, TEXT_REQUEST
from pylon.jobs.request import JobRequest, ReceivedRequest
from pylon.jobs.result import Finish
from pylon.money.msat import ZERO
from pylon.nostr.event import EventDraft
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool_subscription import Received
from pylon.provider import housekeeping, judge, writable
from pylon.provider.admission import Accept
from pylon.provider.intake import open_cancels
from pylon.provider.journal import Journal
from pylon.provider.queue import Job
from pylon.provider.rows import JobState
from tests.customer import Customer
from tests.provider.conftest import MODEL
from tests.waiting import until


async def test_a_private_request_gets_a_sealed_result_with_its_receipt(serve, customer):
    serving = await serve()
    request = await customer.ask(serving.public, customer.job())
    result = await customer.result(request)
    assert result.text
    assert result.kind == RLM_REQUEST + 1_000
    assert result.model is not None and result.model.id == "stand-in-instant"
    assert result.usage is not None and result.usage.completion_tokens > 0
    assert result.finish in (Finish.STOP, Finish.LENGTH)
    event = customer.answers[0]
    assert event.pubkey == serving.public
    assert result.text not in event.to_json().decode()


async def test_an_open_request_gets_an_open_result(serve, customer):
    serving = await serve()
    job = JobRequest("How many legs has a spider?", kind=TEXT_REQUEST)
    request = await customer.ask(serving.public, job, private=False)
    result = await customer.result(request)
    event = customer.answers[0]
    assert event.kind == 6050 and event.content == result.text
    assert event.tag("i") == job.text
    assert event.tag("request") is not None


async def test_a_broadcast_is_left_alone_unless_the_owner_allows_it(serve, customer):
    refusing = await serve(name="a")
    taking = await serve(name="b", serve_broadcast=True)
    request = await customer.ask(None, JobRequest("Who answers?", kind=TEXT_REQUEST), private=False)
    await customer.result(request)
    assert {event.pubkey for event in customer.answers} == {taking.public}
    assert (await refusing.provider.status()).jobs == {}


async def test_a_refused_request_is_never_journaled(serve, customer):
    serving = await serve()
    request = await customer.ask(serving.public, customer.job())
    await customer.result(request)
    refused = await customer.ask(serving.public, customer.job(model="another-model"))
    assert (await customer.refusal(refused)).code is ErrorCode.UNSUPPORTED_MODEL
    rows = await serving.journal.rows()
    assert [row.id for row in rows] == [request.id]


async def delivers(serving, event) -> None:
    """A relay has this request once more."""
    await serving.provider._intake._take([Received(event, "ws://r")], live=True)


async def test_a_request_that_was_refused_stays_refused_though_there_is_room_when_it_comes_again(serve, customer):
    serving = await serve()
    await serving.provider.pause()
    request = await customer.ask(serving.public, customer.job())
    assert (await customer.refusal(request)).code is ErrorCode.PAUSED
    await serving.provider.resume()
    await delivers(serving, request)
    await until(lambda: len(customer.feedback(request)) >= 2)
    assert [one.code for one in customer.feedback(request)] == [ErrorCode.PAUSED] * 2
    assert await serving.journal.rows() == []


async def test_what_a_process_refused_before_it_died_the_next_one_finds_in_store_and_leaves_alone(serve, customer):
    serving = await serve()
    await serving.provider.pause()
    request = await customer.ask(serving.public, customer.job())
    assert (await customer.refusal(request)).code is ErrorCode.PAUSED
    await serving.journal.remember("paused", "")
    await serving.stop()
    again = await serve(secret=serving.secret)
    assert again.provider.paused == ""
    after = await customer.ask(again.public, customer.job("another"))
    await customer.result(after)
    assert [row.id for row in await again.journal.rows()] == [after.id]
    assert {one.code for one in customer.feedback(request)} == {ErrorCode.PAUSED}


async def test_a_job_that_waits_beyond_its_deadline_expires_at_its_turn(serve, customer):
    serving = await serve(slots=1)
    let = serving.hold()
    first = await customer.ask(serving.public, customer.job("first"))
    # Two that come together may begin in either order.
    while not (await serving.provider.status()).running:
        await asyncio.sleep(0.02)
    # Long enough to reach its provider on a machine that stalls: a relay passes nothing on that has expired.
    second = await customer.ask(serving.public, customer.job("second", expires_in=4))
    assert (await customer.refusal(second)).code is ErrorCode.EXPIRED
    let.set()
    assert await customer.result(first)
    assert customer.results(second) == []


async def test_an_answer_that_is_being_written_down_holds_no_slot_and_no_more_of_them_than_slots(
    serve, customer, monkeypatch
):
    serving = await serve(slots=1)
    runner = serving.provider._runner
    settlement = serving.provider._intake._settlement
    written, finish = asyncio.Event(), settlement.finish

    async def slow(*args):
        await written.wait()
        return await finish(*args)

    monkeypatch.setattr(settlement, "finish", slow)
    asked = [await customer.ask(serving.public, customer.job(f"job {n}")) for n in range(3)]
    await until(lambda: (len(runner.running), len(runner.queue), runner.computing) == (2, 1, 0))
    written.set()
    for request in asked:
        assert await customer.result(request)
    assert runner.computing == 0


async def test_the_time_of_answered_jobs_is_told_by_where_it_went(serve, customer):
    serving = await serve(delay_s=0.3, slots=1)
    let = serving.hold()
    asked = [await customer.ask(serving.public, customer.job(f"job {n}")) for n in range(2)]
    await until(lambda: serving.provider._runner.queue)
    let.set()
    for request in asked:
        assert await customer.result(request)
    async with asyncio.timeout(10):
        while sum((told := (await serving.provider.status()).latency)["publish"]["counts"]) < 2:
            await asyncio.sleep(0.01)
    assert sum(told["queue"]["counts"]) == sum(told["compute"]["counts"]) == 2
    # Each was computed for as long as the engine takes, and the second waited for the first.
    assert told["compute"]["sum_s"] >= 0.6
    assert told["queue"]["sum_s"] >= 0.2
    assert serving.provider._runner._since == {}


async def test_an_engine_that_fails_at_once_loses_none_of_the_jobs_that_wait(serve, monkeypatch):
    serving = await serve(slots=200)
    runner, customer = serving.provider._runner, SecretKey.generate()

    async def fails(*args):
        raise EngineError("the engine has failed")

    monkeypatch.setattr(serving.inference, "generate", fails)
    monkeypatch.setattr(runner, "_feeding", True)
    for n in range(600):
        event = customer.sign(EventDraft(RLM_REQUEST, f"sealed {n}"))
        request = ReceivedRequest(event.id, event.pubkey, event.created_at, JobRequest("x"), True, ())
        job = Job(request, event, Accept(ZERO, event.created_at + 60, MODEL, 8), event.created_at, "")
        await serving.journal.admitted(job)
        runner.add(job)
    runner._feeding = False
    runner._feed()
    async with asyncio.timeout(20):
        await runner.wait_idle()
    assert (await serving.provider.status()).jobs == {JobState.FAILED: 600}


async def test_a_slow_job_is_acknowledged_and_a_quick_one_is_not(serve, customer):
    serving = await serve(processing_after_s=0.3)
    let = serving.hold()
    request = await customer.ask(serving.public, customer.job())
    await customer.until(lambda: customer.feedback(request))
    let.set()
    await customer.result(request)
    assert [f.status for f in customer.feedback(request)] == [Status.PROCESSING]
    quick = await serve(name="b", processing_after_s=60.0)
    request = await customer.ask(quick.public, customer.job())
    await customer.result(request)
    assert customer.feedback(request) == []


async def test_a_job_that_will_wait_long_hears_at_once_for_how_long(serve, customer):
    serving = await serve(slots=1, processing_after_s=2.0)
    serving.provider._runner.seconds_per_job = 1.5
    let = serving.hold()
    asked = [await customer.ask(serving.public, customer.job(f"job {n}")) for n in range(4)]
    await customer.until(lambda: all(map(customer.feedback, asked)))
    let.set()
    for request in asked:
        assert await customer.result(request)
    said = sorted(feedback.wait_s for request in asked for feedback in customer.feedback(request))
    # Half a job and one, half a job and two. The first two hear of it only when two seconds are over.
    assert [round(wait, 2) for wait in said] == [0.0, 0.8, 2.2, 3.8]


async def test_a_job_that_runs_is_said_to_have_begun(serve, customer):
    serving = await serve(processing_after_s=0.3)
    let = serving.hold()
    request = await customer.ask(serving.public, customer.job())
    await customer.until(lambda: customer.feedback(request))
    let.set()
    await customer.result(request)
    assert [feedback.wait_s for feedback in customer.feedback(request)] == [0.0]


async def test_a_paused_provider_finishes_what_it_has_and_refuses_what_comes(serve, customer):
    serving = await serve()
    let = serving.hold()
    taken = await customer.ask(serving.public, customer.job())
    while not (await serving.provider.status()).running:
        await asyncio.sleep(0.02)
    await serving.provider.pause()
    refused = await customer.ask(serving.public, customer.job())
    feedback = await customer.refusal(refused)
    assert (feedback.code, feedback.text) == (ErrorCode.PAUSED, "owner")
    let.set()
    assert await customer.result(taken)
    await serving.provider.resume()
    assert await customer.result(await customer.ask(serving.public, customer.job()))


async def test_pausing_lasts_over_a_restart(serve, customer):
    serving = await serve()
    await serving.provider.pause()
    await serving.stop()
    again = await serve(secret=serving.secret)
    assert (await customer.refusal(await customer.ask(again.public, customer.job()))).code is ErrorCode.PAUSED


async def test_a_cancelled_job_frees_its_place_and_brings_no_result(serve, customer):
    serving = await serve(delay_s=30.0, slots=1)
    running = await customer.ask(serving.public, customer.job("running"))
    waiting = await customer.ask(serving.public, customer.job("waiting"))
    while (await serving.provider.status()).running + (await serving.provider.status()).queued < 2:
        await asyncio.sleep(0.02)
    ids = (running.id, waiting.id)
    await customer.send(cancel_draft(ids, RLM_REQUEST, serving.public, created_at=running.created_at))
    while (await serving.provider.status()).jobs != {JobState.CANCELLED: 2}:
        await asyncio.sleep(0.02)
    assert customer.answers == []


async def test_a_job_that_is_taken_back_before_it_began_leaves_its_place_free(serve, customer):
    serving = await serve(delay_s=30.0, slots=1)
    event = SecretKey.generate().sign(EventDraft(RLM_REQUEST, "sealed"))
    request = ReceivedRequest(event.id, event.pubkey, event.created_at, JobRequest("unwanted"), True, ())
    expires_at = event.created_at + 60
    job = Job(request, event, Accept(ZERO, expires_at, MODEL, 8), event.created_at, "")
    await serving.journal.admitted(job)
    runner = serving.provider._runner
    runner.add(job)
    await runner.cancel(job.id, event.pubkey)
    async with asyncio.timeout(10):
        await runner.wait_idle()
    assert (await serving.provider.status()).jobs == {JobState.CANCELLED: 1}


async def test_a_job_of_an_earlier_process_is_answered_as_then_though_the_owner_has_paused_since(serve, customer):
    serving = await serve()
    request = await customer.ask(serving.public, customer.job())
    first = await customer.result(request)
    await serving.provider.pause()
    await serving.stop()
    again = await serve(secret=serving.secret)
    other = await customer.ask(again.public, customer.job("other"))
    assert (await customer.refusal(other)).code is ErrorCode.PAUSED
    assert customer.results(request) == [first] and customer.feedback(request) == []


async def test_only_its_customer_may_cancel_a_job(serve, customer, another_customer):
    serving = await serve(delay_s=0.6)
    request = await customer.ask(serving.public, customer.job())
    stranger = await another_customer()
    await stranger.send(cancel_draft((request.id,), RLM_REQUEST, serving.public, created_at=request.created_at))
    assert await customer.result(request)


@pytest.mark.parametrize("looked_for", [True, False], ids=["while it is looked for", "before that"])
async def test_a_cancellation_that_does_not_name_the_provider_is_heard_for_an_open_job(
    serve, customer, monkeypatch, looked_for
):
    monkeypatch.setattr(open_cancels, "LOOK_S", 0.2)
    serving = await serve(delay_s=30.0, slots=1)
    jobs = [await customer.ask(serving.public, customer.job(f"job {n}"), private=False) for n in range(2)]
    # Relays no longer show what was taken back to who was not there yet.
    while (await serving.provider.status()).running + (await serving.provider.status()).queued < 2:
        await asyncio.sleep(0.02)
    if looked_for:
        asked = serving.provider._open_cancels
        await until(lambda: asked._asked == {job.id for job in jobs})
        await asyncio.sleep(0.2)
    await customer.send(EventDraft(DELETION, "", tuple(("e", job.id) for job in jobs)))
    async with asyncio.timeout(10):
        while (await serving.provider.status()).jobs != {JobState.CANCELLED: 2}:
            await asyncio.sleep(0.02)
        # Nothing is asked for any more.
        await until(lambda: serving.provider._open_cancels._reader is None)


async def test_ids_of_open_jobs_are_asked_for_within_bounds_and_those_of_private_ones_never(
    serve, customer, monkeypatch
):
    monkeypatch.setattr(open_cancels, "LOOK_S", 0.1)
    monkeypatch.setattr(open_cancels, "MOST", 2)
    serving = await serve(delay_s=30.0, slots=1)

    async def taken_on(count: int) -> None:
        while (status := await serving.provider.status()).running + status.queued < count:
            await asyncio.sleep(0.02)

    open_ = []
    for n in range(3):
        # Two that come together are taken on in either order.
        open_.append(await customer.ask(serving.public, customer.job(f"{n}"), private=False))
        await taken_on(n + 1)
    await customer.ask(serving.public, customer.job("private"))
    await taken_on(4)
    asked = serving.provider._open_cancels
    await until(lambda: asked._asked == {job.id for job in open_[1:]})


async def test_a_malformed_request_that_names_several_providers_is_answered_by_each_of_them(serve, customer):
    first, second = await serve(name="first"), await serve(name="second")
    for serving in (first, second):
        await customer.result(await customer.ask(serving.public, customer.job()))
    tags = (("p", first.public), ("p", second.public), ("i", "hi", "text"), ("param", "max_tokens", "many"))
    request = await customer.send(EventDraft(RLM_REQUEST, "", tags, int(time.time())))
    await customer.until(lambda: len(customer.feedback(request)) == 2)
    assert {said.code for said in customer.feedback(request)} == {ErrorCode.MALFORMED}


async def test_a_streamed_job_sends_pieces_that_join_to_a_prefix_of_the_answer(serve, customer):
    serving = await serve(delay_s=4.0)
    request = await customer.ask(serving.public, customer.job("Tell a story", stream=True))
    result = await customer.result(request)
    joined, pieces = "", [said for said in customer.feedback(request) if said.status is Status.PARTIAL]
    for piece in pieces:
        assert piece.offset == len(joined)
        joined += piece.text
    assert len(pieces) > 1 and result.text.startswith(joined)


async def test_after_a_restart_a_streamed_job_comes_in_pieces_unless_pieces_of_it_may_be_out(serve, customer):
    def pieces(request) -> list[int]:
        return [said.offset for said in customer.feedback(request) if said.status is Status.PARTIAL]

    serving = await serve(delay_s=30.0, slots=1)
    begun = await customer.ask(serving.public, customer.job("Tell a story", stream=True))
    while not any([pending.begun async for pending in serving.journal.pending()]):
        await asyncio.sleep(0.02)
    waiting = await customer.ask(serving.public, customer.job("Tell another", stream=True))
    while (await serving.provider.status()).queued < 1:
        await asyncio.sleep(0.02)
    await serving.stop()
    sent = pieces(begun)
    again = await serve(delay_s=2.0, slots=2, secret=serving.secret)
    for request in (begun, waiting):
        assert await customer.result(request)
    assert pieces(begun) == sent
    assert pieces(waiting)[0] == 0
    assert again.public == serving.public


async def test_a_thousand_jobs_of_one_customer_delay_another_by_one_job_only(serve, customer, another_customer):
    serving = await serve(delay_s=0.2, slots=1)
    let = serving.hold()
    flood = [await customer.ask(serving.public, customer.job(f"flood {n}")) for n in range(20)]
    other = await another_customer()
    request = await other.ask(serving.public, other.job("mine"))
    await until(lambda: len(serving.provider._runner.queue) == 20)
    let.set()
    await other.result(request)
    answered = sum(bool(customer.results(event)) for event in flood)
    assert answered < 15


async def test_a_blocked_key_hears_nothing_and_costs_no_opening_of_its_request(
    serve, customer, another_customer, monkeypatch
):
    opened, parse = [], judge.parse_request
    monkeypatch.setattr(judge, "parse_request", lambda event, keys: opened.append(event.pubkey) or parse(event, keys))
    serving = await serve(blocked=frozenset({customer.secret.public}))
    await customer.ask(serving.public, customer.job())
    other = await another_customer()
    await other.result(await other.ask(serving.public, other.job()))
    assert customer.answers == []
    assert opened == [other.secret.public]


async def test_a_provider_is_announced_beats_and_withdraws_when_it_stops(serve, customer):
    serving = await serve(name="a")
    own = frozenset({serving.public})
    announced = Filter(authors=own, kinds=frozenset({ANNOUNCEMENT}))

    async def seen(wanted):
        return await customer.pool.query((wanted,))

    async with asyncio.timeout(10):
        while not any(tag[0] == "model" for event in await seen(announced) for tag in event.tags):
            await asyncio.sleep(0.05)
    assert await seen(Filter(authors=own, kinds=frozenset({HEARTBEAT})))
    await serving.stop()
    assert await seen(announced) == []


async def test_old_rows_are_forgotten_again_after_an_error_of_the_database(serve, monkeypatch):
    monkeypatch.setattr(housekeeping, "EVERY_S", 0.01)
    monkeypatch.setattr(forever, "REST_S", 0.01)
    turns, forget = 0, Journal.forget

    async def forgets(journal, **before):
        nonlocal turns
        turns += 1
        if turns == 1:
            raise sqlite3.OperationalError("database is locked")
        await forget(journal, **before)

    monkeypatch.setattr(Journal, "forget", forgets)
    serving = await serve()
    async with serving.database.transaction() as tx:
        # Rows grow old by the date of a later one.
        await tx.execute_many(
            "INSERT INTO job (id, customer, kind, state, relay, received_at, expires_at)"
            " VALUES (?, 'c', 5940, 'settled', 'ws://r', ?, 1)",
            [("old", 1.0), ("later", SystemClock().wall() - 2 * BELIEVED_S)],
        )
    async with asyncio.timeout(20):
        while [row.id for row in await serving.journal.rows()] != ["later"]:
            await asyncio.sleep(0.01)
    assert turns > 1


async def test_where_nothing_can_be_written_jobs_are_refused_until_it_can(serve, customer, monkeypatch):
    monkeypatch.setattr(writable, "WRITE_AGAIN_S", 0.05)
    serving = await serve()
    database = serving.database
    async with database.transaction() as tx:
        [pages, most] = [(await tx.fetch_one(f"PRAGMA {name}"))[0] for name in ("page_count", "max_page_count")]
        await tx.execute(f"PRAGMA max_page_count = {pages}")
    long = "word " * 4_000
    refused = await customer.ask(serving.public, customer.job(long))
    refusal = await customer.refusal(refused)
    assert (refusal.code, refusal.text) == (ErrorCode.PAUSED, "disk")
    assert (await serving.provider.status()).paused in ("disk", "")
    async with database.transaction() as tx:
        await tx.execute(f"PRAGMA max_page_count = {most}")
    async with asyncio.timeout(10):
        while (await serving.provider.status()).paused:
            await asyncio.sleep(0.02)
    assert (await customer.result(await customer.ask(serving.public, customer.job(long)))).text


async def test_a_node_that_cannot_write_says_so_until_it_can(serve, monkeypatch):
    monkeypatch.setattr(writable, "WRITE_AGAIN_S", 0.05)
    serving = await serve()
    remember, full = serving.journal.remember, [True]

    async def remember_or_fail(name, value):
        if full:
            raise sqlite3.OperationalError("database or disk is full")
        await remember(name, value)

    monkeypatch.setattr(serving.journal, "remember", remember_or_fail)
    serving.provider._disk.failed(sqlite3.OperationalError("database or disk is full"))
    await asyncio.sleep(0.2)
    assert (await serving.provider.status()).paused == "disk"
    assert serving.provider._pauses.public_reason == "disk"
    full.clear()
    async with asyncio.timeout(10):
        while (await serving.provider.status()).paused:
            await asyncio.sleep(0.02)


def malformed(provider: str, customer: Customer) -> EventDraft:
    inner = {"text": "hi", "tags": [["i", "", "text"], ["param", "max_tokens", "many"]]}
    content = customer.keys.encrypt(provider, orjson.dumps(inner))
    return EventDraft(RLM_REQUEST, content, (("p", provider), ("encrypted",), ("v", SCHEMA)), int(time.time()))


async def test_who_had_a_job_taken_on_is_told_what_is_malformed_and_a_stranger_is_not(
    serve, customer, another_customer
):
    serving = await serve(name="known")
    stranger = await another_customer()
    request = await customer.ask(serving.public, customer.job())
    await customer.result(request)
    asked = [await one.send(malformed(serving.public, one)) for one in (stranger, customer)]
    refusal = await customer.refusal(asked[1])
    assert refusal.code is ErrorCode.MALFORMED and "max_tokens" in refusal.text
    await serving.stop()
    again = await serve(name="known", secret=serving.secret)
    after = await customer.send(malformed(again.public, customer))
    assert (await customer.refusal(after)).code is ErrorCode.MALFORMED, "a restart makes no stranger of it"
    assert stranger.answers == []
