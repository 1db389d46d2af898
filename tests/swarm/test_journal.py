"""A run's rows on disk: they are what they were, so that a run of an older version is taken up again."""

import asyncio
import sqlite3
from dataclasses import asdict
from hashlib import sha256

import orjson
import pytest

from pylon.clock import BELIEVED_S, SystemClock
from pylon.jobs.answer import Address
from pylon.jobs.result import Finish, JobResult, ModelUsed, Timing
from pylon.money.accounts.usage import Bounds, Usage
from pylon.money.msat import Msat
from pylon.money.price import FREE
from pylon.store.thread import SqliteThread
from pylon.swarm.checks.verification import Doubt, doubts_of, fault_of
from pylon.swarm.flights import Back, Flight
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.rows import written
from pylon.swarm.runs.journal import KEEP_S, RunJournal, digest_of
from pylon.swarm.runs.kept import Sent
from pylon.swarm.schema import SWARM
from pylon.swarm.wire.meaning import answer_of
from tests.manual_clock import ManualClock
from tests.opened import opened_database

SPECS = [
    JobSpec("How many legs has a spider?", max_tokens=16),
    JobSpec(
        messages=(("user", "Hello"), ("assistant", "Hi")),
        system="Be brief.",
        model="needle-1",
        temperature=0.5,
        top_p=0.9,
        top_k=4,
        frequency_penalty=0.1,
        seed=7,
        stop=("\n", "END"),
        schema={"type": "object", "properties": {"b": {"type": "integer"}, "a": {"enum": ["x", "ü"]}}},
        timeout=3.0,
        bid_msat=1500,
        votes=3,
        stream=True,
    ),
]
# As the first version of the table wrote them.
DIGEST = "3d9302b20d374162ead19cc351af220d8be15ee8ee8a6cb619cec75ff7a402a3"
WHOLE = Answer(
    "acht: ü\n", "b" * 64, "needle-1", "ab" * 32, Usage(12, 3), Finish.STOP, 50, 100, 1234, 2, "1" * 64, "2" * 64,
    Msat(600), ("signature", "receipt"), 12,
)  # fmt: skip
WHOLE_ROW = (
    '{"text":"acht: ü\\n","provider":"' + "b" * 64 + '","model":"needle-1","sha256":"' + "ab" * 32 + '",'
    '"usage":{"prompt_tokens":12,"completion_tokens":3},"finish":"stop","queue_ms":50,"run_ms":100,"latency_ms":1234,'
    '"attempts":2,"request_id":"' + "1" * 64 + '","result_id":"' + "2" * 64 + '","paid":600,'
    '"verified":["signature","receipt"],"max_completion_tokens":12}'
)
BARE = Answer("", "b" * 64, "", "", None, None, 0, 0, 7, 1, "1" * 64, "2" * 64)
BARE_ROW = (
    '{"text":"","provider":"' + "b" * 64 + '","model":"","sha256":"","usage":null,"finish":null,"queue_ms":0,'
    '"run_ms":0,"latency_ms":7,"attempts":1,"request_id":"' + "1" * 64 + '","result_id":"' + "2" * 64 + '","paid":0,'
    '"verified":["signature"],"max_completion_tokens":0}'
)


@pytest.fixture
async def opened(tmp_path):
    async with opened_database(tmp_path / "pylon.db", SWARM) as opened:
        yield opened


async def test_the_same_questions_have_the_same_digest_in_every_version_whatever_time_they_are_given():
    assert await digest_of(SPECS) == DIGEST
    assert await digest_of(SPECS[::-1]) != DIGEST


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 100])
async def test_a_digest_is_that_of_all_questions_in_one_piece_of_json(count):
    specs = [JobSpec(f"{n}: {'ü' * (n % 7)}", seed=n) for n in range(count)]
    rows = [{**asdict(spec), "timeout": None} for spec in specs]
    whole = orjson.dumps(rows, option=orjson.OPT_SORT_KEYS)
    assert await digest_of(specs) == sha256(whole).hexdigest()


async def test_others_have_their_turns_while_many_long_questions_are_digested():
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(others())
    await digest_of([JobSpec("x" * 100_000) for _ in range(100)])
    task.cancel()
    assert turns >= 5


async def test_one_flush_to_the_disk_serves_a_run_and_its_first_request(opened, monkeypatch):
    database, group = opened
    commits: list[object] = []
    run = SqliteThread.run

    async def counted(self, work, **when):
        commits.append(work)
        return await run(self, work, **when)

    monkeypatch.setattr(SqliteThread, "run", counted)
    journal = await RunJournal.open(database, group, SystemClock(), SPECS, resume=False)
    for _ in range(20):
        # The group has its turns, and leaves the run's row for the request.
        await asyncio.sleep(0)
    await written([journal.sent(Flight("1" * 64, 25910, 0, 1, "b" * 64, 1, 0.0, None), 0, 2.0)])
    assert commits == [sqlite3.Connection.commit]
    asked = await database.fetch_all("SELECT run FROM swarm_request JOIN swarm_run ON run = id")
    assert [row["run"] for row in asked] == [journal.run]


async def test_a_run_whose_row_was_lost_has_it_written_once_more_before_its_next_request(opened):
    database, group = opened
    async with database.transaction() as tx:
        await tx.execute("CREATE TRIGGER full BEFORE INSERT ON swarm_run BEGIN SELECT RAISE(ABORT, 'full'); END")
    journal = await RunJournal.open(database, group, SystemClock(), SPECS, resume=False)
    requests = [Flight(f"{n}" * 64, 25910, 0, n, "b" * 64, 1, 0.0, None) for n in (1, 2, 3)]
    with pytest.raises(sqlite3.IntegrityError):
        await written([journal.sent(requests[0], 0, 2.0)])
    async with database.transaction() as tx:
        await tx.execute("DROP TRIGGER full")
    for request in requests[1:]:
        await written([journal.sent(request, 0, 2.0)])
    assert (await RunJournal.open(database, group, SystemClock(), SPECS, resume=True)).run == journal.run
    assert len((await journal.kept()).requests) == 2


async def test_a_run_older_than_what_is_kept_is_not_taken_up_and_goes(opened):
    database, group = opened
    clock = ManualClock()
    journal = await RunJournal.open(database, group, clock, SPECS, resume=False)
    await journal.ended()
    clock.advance(KEEP_S - 1)
    assert (await RunJournal.open(database, group, clock, SPECS, resume=True)).run == journal.run
    clock.advance(2)
    another = await RunJournal.open(database, group, clock, SPECS, resume=True)
    assert another.run != journal.run and not another.taken_up
    clock.advance(BELIEVED_S)
    last = await RunJournal.open(database, group, clock, SPECS, resume=False)
    await last.ended()
    assert {row["id"] for row in await database.fetch_all("SELECT id FROM swarm_run")} == {another.run, last.run}


async def test_runs_of_a_day_with_a_date_far_ahead_take_no_earlier_run_away(opened):
    database, group = opened
    clock = ManualClock()
    journal = await RunJournal.open(database, group, clock, SPECS, resume=False)
    await journal.ended()
    clock.set_by(365 * 86_400)
    for _ in range(3):
        await (await RunJournal.open(database, group, clock, SPECS[:1], resume=False)).ended()
        clock.advance(3_600)
    clock.set_by(-365 * 86_400)
    assert (await RunJournal.open(database, group, clock, SPECS, resume=True)).run == journal.run


async def test_of_two_runs_the_later_one_is_taken_up_though_the_date_was_set_back_between(opened):
    database, group = opened
    clock = ManualClock()
    await (await RunJournal.open(database, group, clock, SPECS, resume=False)).ended()
    clock.set_by(-3_600)
    later = await RunJournal.open(database, group, clock, SPECS, resume=False)
    await later.ended()
    assert (await RunJournal.open(database, group, clock, SPECS, resume=True)).run == later.run


async def test_answers_are_written_as_they_always_were_and_come_back_whole(opened):
    database, group = opened
    journal = await RunJournal.open(database, group, SystemClock(), SPECS, resume=False)
    journal.filled(0, WHOLE)
    journal.filled(1, BARE)
    await journal.ended()
    rows = await database.fetch_all("SELECT answer FROM swarm_outcome ORDER BY place")
    assert [row["answer"] for row in rows] == [WHOLE_ROW, BARE_ROW]
    again = await RunJournal.open(database, group, SystemClock(), SPECS, resume=True)
    assert (await again.kept()).answers == {0: WHOLE, 1: BARE}


def test_an_answer_that_waited_in_a_relay_while_nobody_ran_took_as_long_as_it_was_out():
    sent = Sent("1" * 64, 0, "b" * 64, 5940, 1_000, 2_000.0, Msat(5), None, Msat(5), Bounds(10, 512), FREE)
    flight = sent.flight(0, 1, now=100.0, wall=1_030.0)
    used = ModelUsed("m", "a" * 64, "4bit")
    flight.result = JobResult(
        Address("1" * 64, "c" * 64), 6_940, "word " * 400, used, Usage(10, 400), Timing(1_000, 20_000), Finish.STOP
    )
    answer, spec = answer_of(flight, 100.006, ()), JobSpec("tell me a story", max_tokens=512)
    assert answer.latency_ms == 30_006
    assert fault_of(spec, answer) is None and Doubt.TIMING not in doubts_of(spec, answer)


async def test_what_was_taken_back_is_known_as_that_and_is_open_where_nothing_else_of_its_place_is(opened):
    database, group = opened
    journal = await RunJournal.open(database, group, SystemClock(), SPECS, resume=False)
    for name, place in (("1", 0), ("2", 0), ("3", 1)):
        await written([journal.sent(Flight(name * 64, 25910, 0, 1, "b" * 64, 1, 0.0, None), place, 2.0)])
    for name in ("2", "3"):
        journal.taken_back(name * 64)
    await group.execute("SELECT 1")
    kept = await journal.kept()
    assert [(one.request[0], one.taken_back) for one in kept.sent] == [("1", False), ("2", True), ("3", True)]
    assert {place: one.request[0] for place, one in kept.open_at(1.0).items()} == {0: "1", 1: "3"}
    assert [one.flight(0, 1, 0.0, 0.0).back for one in kept.sent] == [Back.PERHAPS, Back.BEFORE, Back.BEFORE]


@pytest.mark.parametrize("usage", [None, Usage(4, 3)])
@pytest.mark.parametrize("finish", [None, Finish.LENGTH])
def test_an_answer_s_row_is_what_it_is_as_json_and_makes_the_very_same_answer(usage, finish) -> None:
    answer = Answer(
        "so it is", "p", "m", "ab" * 32, usage, finish, 1, 90, 100, 2, "request", "result", Msat(7),
        ("signature", "compared"), 12,
    )  # fmt: skip
    written = orjson.dumps(answer)
    assert orjson.loads(orjson.dumps(answer.row())) == orjson.loads(written)
    again = Answer.of_row({**orjson.loads(written), "place": 3})
    assert again == answer and isinstance(again.paid, Msat) and again.finish is finish
