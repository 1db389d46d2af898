"""A job's row: which step may follow which, and what each keeps."""

import sqlite3

import pytest

from pylon.jobs.request import JobRequest, ReceivedRequest
from pylon.money.accounts.usage import Usage
from pylon.money.msat import Msat
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey
from pylon.provider import rows
from pylon.provider.admission import Accept
from pylon.provider.queue import Job
from pylon.provider.rows import SCHEMA, JobState, Work
from pylon.store.database import Database

KEY = SecretKey(bytes(31) + b"\x07")
REQUEST = KEY.sign(EventDraft(5940, "a secret question", created_at=1))
RESULT, ANOTHER = (KEY.sign(EventDraft(6940, text, created_at=1)) for text in ("an answer", "another"))
WORD = KEY.sign(EventDraft(7000, "no", created_at=1))
ID = REQUEST.id
WORK = Work(3, 2, 5, 9.0)

# What each step is, and the states that it leaves. Where a job stands otherwise it finds nothing to do.
STEPS = {
    "signed": (rows.SIGN, rows.signature(ID, RESULT, WORK, 1_000), {"queued"}, "signed"),
    "settled": (rows.SETTLE, (ID,), {"signed"}, "settled"),
    "undelivered": (rows.GIVE_UP, (ID,), {"signed"}, "undelivered"),
    "failed": (rows.END, ("failed", "busy", 9.0, None, ID), {"awaiting_funds", "queued"}, "failed"),
    "begun": (rows.BEGIN, (ID,), {"queued"}, "queued"),
    "sent": (rows.SENT, (5, 3, ID), {"queued"}, "queued"),
}


def job() -> Job:
    received = ReceivedRequest(ID, REQUEST.pubkey, 1, JobRequest("prompt"), True, ("p",))
    return Job(received, REQUEST, Accept(Msat(1), 100, "m", 8), 4.0, "ws://r")


@pytest.fixture
async def tx(tmp_path):
    database = await Database.open(tmp_path / "a.db", [SCHEMA])
    async with database.transaction() as tx:
        await rows.insert(tx, job())
        yield tx
    await database.close()


async def put(tx, state: str) -> None:
    await tx.execute("UPDATE job SET state = ?", (state,))


async def row(tx) -> sqlite3.Row:
    found = await tx.fetch_one("SELECT * FROM job")
    assert found is not None
    return found


async def pending(tx):
    left = await tx.fetch_one(rows.LEFT)
    return None if left is None else rows.pending(await tx.fetch_one(rows.PENDING, (left["id"],)))


async def test_a_job_is_written_once_with_all_that_it_takes_to_run_it_again(tx):
    assert not await rows.insert(tx, job())
    found = await pending(tx)
    assert (found.event, found.relay, found.received_at, found.state) == (REQUEST, "ws://r", 4.0, JobState.QUEUED)
    assert (found.model, found.result, found.sent, found.begun) == ("m", None, None, False)


@pytest.mark.parametrize("state", list(JobState))
@pytest.mark.parametrize("step", STEPS)
async def test_a_step_is_taken_from_the_states_that_it_leaves_and_from_no_other(tx, step, state):
    statement, values, leaves, to = STEPS[step]
    await put(tx, state.value)
    before = tuple(await row(tx))
    taken = await tx.execute(statement, values)
    assert taken == (state.value in leaves)
    after = await row(tx)
    assert after["state"] == (to if taken else state.value)
    assert taken or tuple(after) == before


@pytest.mark.parametrize("state", list(JobState))
async def test_a_job_moves_on_only_from_where_it_was_thought_to_be(tx, state):
    await put(tx, state.value)
    await rows.move(tx, ID, JobState.AWAITING_FUNDS, JobState.QUEUED)
    waits = state is JobState.AWAITING_FUNDS
    assert await rows.state(tx, ID) is (JobState.QUEUED if waits else state)
    assert await rows.state(tx, "another") is None


async def test_a_signed_job_keeps_its_result_and_numbers_and_not_its_question(tx):
    assert await rows.sign(tx, [(ID, RESULT, WORK, 1_000), ("another", ANOTHER, WORK, 1_000)]) == 1
    found = await row(tx)
    assert found["request"] is None
    numbers = ("prompt_tokens", "completion_tokens", "run_ms", "finished_at", "charge_msat")
    assert [found[name] for name in numbers] == [3, 2, 5, 9.0, 1_000]
    again = await pending(tx)
    assert (again.result, again.event, again.state, again.sent) == (RESULT, RESULT, JobState.SIGNED, None)


async def test_what_was_sent_of_an_answer_is_remembered_until_the_job_ends(tx):
    await tx.execute(rows.BEGIN, (ID,))
    await tx.execute(rows.SENT, (5, 3, ID))
    found = await pending(tx)
    assert (found.sent, found.begun) == (Usage(5, 3), True)
    await rows.end(tx, ID, JobState.CANCELLED, code="cancelled", finished_at=9.0)
    ended = await row(tx)
    assert [ended[name] for name in ("prompt_tokens", "completion_tokens", "request", "result")] == [0, 0, None, None]
    assert (ended["code"], ended["finished_at"]) == ("cancelled", 9.0)
    assert await pending(tx) is None


async def test_an_undelivered_result_is_gone_and_its_charge_stands(tx):
    await rows.sign(tx, [(ID, RESULT, WORK, 1_000)])
    await tx.execute(rows.GIVE_UP, (ID,))
    found = await row(tx)
    assert (found["result"], found["charge_msat"]) == (None, 1_000)


@pytest.mark.parametrize("state", [JobState.EXPIRED, JobState.CANCELLED, JobState.FAILED])
async def test_what_a_customer_has_yet_to_be_told_is_pending_until_it_is_told(tx, state):
    await rows.end(tx, ID, state, code="too_large", finished_at=9.0, feedback=WORD)
    found = await pending(tx)
    assert (found.result, found.state, found.sent) == (WORD, state, None)
    await tx.execute(rows.DROP_ERROR, (ID,))
    assert await pending(tx) is None
    assert (await row(tx))["code"] == "too_large"


async def test_what_is_told_takes_no_result_from_a_job_that_has_one(tx):
    await rows.sign(tx, [(ID, RESULT, WORK, 0)])
    await tx.execute(rows.DROP_ERROR, (ID,))
    await tx.execute(rows.SETTLE, (ID,))
    await tx.execute(rows.DROP_ERROR, (ID,))
    assert (await row(tx))["result"] is not None


async def test_a_row_without_contents_is_passed_over(tx):
    await tx.execute("UPDATE job SET request = NULL")
    assert await pending(tx) is None


async def test_the_newest_jobs_come_first_all_of_them_or_those_in_one_state(tx):
    for number, state in enumerate(("failed", "settled", "failed")):
        await tx.execute(
            "INSERT INTO job (id, customer, kind, state, relay, received_at, expires_at)"
            " VALUES (?, 'c', 5050, ?, '', ?, 1)",
            (f"{number}", state, 10.0 + number),
        )
    all_ = [rows.newest(one) for one in await tx.fetch_all(rows.NEWEST, (None, 3))]
    assert [one.id for one in all_] == ["2", "1", "0"] and all_[1].state is JobState.SETTLED
    failed = [rows.newest(one) for one in await tx.fetch_all(rows.NEWEST, ("failed", 9))]
    assert [one.id for one in failed] == ["2", "0"]
