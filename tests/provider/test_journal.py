import pytest

from pylon.jobs.request import JobRequest, ReceivedRequest
from pylon.money.msat import ZERO
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey
from pylon.provider import rows
from pylon.provider.admission import Accept
from pylon.provider.journal import Journal
from pylon.provider.queue import Job
from pylon.provider.rows import SCHEMA, JobState, Work
from pylon.store.database import Schema
from tests.opened import opened_database

KEY = SecretKey(bytes(31) + b"\x07")


def event(text: str, kind: int = 5940):
    return KEY.sign(EventDraft(kind, text, created_at=1))


@pytest.fixture
async def journal(tmp_path):
    async with opened_database(tmp_path / "a.db", SCHEMA) as (database, group):
        yield Journal(database, group)


async def queue(journal: Journal, request, *, at: float = 1.0, expires_at: int = 100) -> None:
    received = ReceivedRequest(request.id, request.pubkey, 1, JobRequest("prompt"), True, ("p",))
    await journal.admitted(Job(received, request, Accept(ZERO, expires_at, "m", 8), at, "ws://r"))


async def sign(journal: Journal, request, result) -> None:
    await journal.signed(request.id, result, Work(3, 2, 5, 2.0))


async def test_what_is_queued_or_signed_is_pending_and_nothing_else(journal):
    waiting, answered, done, dropped = (event(text) for text in ("waiting", "answered", "done", "dropped"))
    for at, request in enumerate((waiting, answered, done, dropped)):
        await queue(journal, request, at=at)
    result = event("result", 6940)
    await sign(journal, answered, result)
    await sign(journal, done, event("other result", 6940))
    journal.settled(done.id)
    await journal.transact(lambda tx: rows.end(tx, dropped.id, JobState.CANCELLED, code="cancelled", finished_at=3.0))
    pending = [one async for one in journal.pending()]
    assert [(p.event, p.result) for p in pending] == [(waiting, None), (result, result)]


async def test_a_job_is_remembered_to_have_begun_when_pieces_of_its_answer_may_be_out(journal):
    begun, waiting = event("begun"), event("waiting")
    await queue(journal, begun, at=1.0)
    await queue(journal, waiting, at=2.0)
    await journal.begun(begun.id)
    assert [(one.event, one.begun) async for one in journal.pending()] == [(begun, True), (waiting, False)]


async def test_the_first_result_of_a_job_stays_its_result(journal):
    request, first, second = event("q"), event("first", 6940), event("second", 6940)
    await queue(journal, request)
    await sign(journal, request, first)
    await sign(journal, request, second)
    assert (await journal.known([request.id]))[request.id] == first


async def test_an_answered_job_cannot_end_otherwise(journal):
    request = event("q")
    await queue(journal, request)
    await sign(journal, request, event("r", 6940))
    await journal.transact(lambda tx: rows.end(tx, request.id, JobState.EXPIRED, code="expired", finished_at=3.0))
    assert await journal.counts() == {"signed": 1}


async def test_the_request_is_dropped_once_it_is_answered(journal, tmp_path):
    request = event("a secret question")
    await queue(journal, request)
    await sign(journal, request, event("r", 6940))
    row = await journal._database.fetch_one("SELECT request FROM job")
    assert row["request"] is None


async def test_forgetting_drops_contents_first_and_rows_later_but_never_what_is_pending(journal):
    old, new, open_ = event("old"), event("new"), event("open")
    await queue(journal, old, at=10, expires_at=50)
    await queue(journal, new, at=200, expires_at=250)
    await queue(journal, open_, at=5, expires_at=20)
    for request in (old, new):
        await sign(journal, request, event(request.content + " result", 6940))
        journal.settled(request.id)
    await journal.forget(results_before=100, rows_before=0)
    known = await journal.known([old.id, new.id])
    assert known[old.id] is None and known[new.id] is not None
    await journal.forget(results_before=100, rows_before=100)
    assert set(await journal.known([old.id, new.id, open_.id])) == {new.id, open_.id}


async def test_a_remembered_setting_is_read_back(journal):
    assert await journal.setting("paused") == ""
    await journal.remember("paused", "owner")
    await journal.remember("paused", "battery")
    assert await journal.setting("paused") == "battery"


async def test_jobs_of_the_first_schema_are_taken_over_with_all_that_they_hold(tmp_path):
    waiting, answered, result = event("waiting"), event("answered"), event("result", 6940)
    async with opened_database(tmp_path / "a.db", Schema(SCHEMA.room, SCHEMA.migrations[:1])) as (database, group):
        journal = Journal(database, group)
        for one, at in ((waiting, 1.0), (answered, 2.0)):
            await group.execute(
                "INSERT INTO job (id, customer, kind, state, relay, model, received_at, expires_at, request)"
                " VALUES (?, ?, ?, 'queued', 'ws://r', 'm', ?, 100, ?)",
                (one.id, one.pubkey, one.kind, at, one.to_json()),
            )
        await sign(journal, answered, result)
        rows = await journal.rows()

    async with opened_database(tmp_path / "a.db", SCHEMA) as (database, group):
        journal = Journal(database, group)
        assert await journal.rows() == rows
        pending = [(one.event, one.relay, one.received_at, one.result) async for one in journal.pending()]
        assert pending == [(waiting, "ws://r", 1.0, None), (result, "ws://r", 2.0, result)]
        assert (await anext(journal.pending())).begun, "pieces of its answer may be out"
        assert (await anext(journal.pending())).agreed is None
        # Those that come after are told apart from those that were there.
        await queue(journal, waiting)
        assert await journal.counts() == {"queued": 1, "signed": 1}
        indexes = await database.fetch_all("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql NOT NULL")
        assert {row["name"] for row in indexes} == {"job_state", "job_received", "job_result"}


@pytest.mark.parametrize(("statement", "index"), [(rows.FORGET_RESULTS, "job_result"), (rows.FORGET, "job_received")])
async def test_what_is_forgotten_is_found_without_a_look_at_all_rows(journal, statement, index):
    plan = await journal._database.fetch_all(f"EXPLAIN QUERY PLAN {statement}", (1,))
    assert [index in row["detail"] for row in plan] == [True]
