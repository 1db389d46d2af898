"""A run's rows on disk: they are what they were, so that a run of an older version is taken up again."""

from pylon.clock import SystemClock
from pylon.jobs.result import Finish, Usage
from pylon.money.msat import Msat
from pylon.store.database import Database
from pylon.store.group import GroupCommit
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.journal import RunJournal, digest_of
from pylon.swarm.schema import SWARM

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
    Msat(600), ("signature", "receipt"),
)  # fmt: skip
WHOLE_ROW = (
    '{"text":"acht: ü\\n","provider":"' + "b" * 64 + '","model":"needle-1","sha256":"' + "ab" * 32 + '",'
    '"usage":{"prompt_tokens":12,"completion_tokens":3},"finish":"stop","queue_ms":50,"run_ms":100,"latency_ms":1234,'
    '"attempts":2,"request_id":"' + "1" * 64 + '","result_id":"' + "2" * 64 + '","paid":600,'
    '"verified":["signature","receipt"]}'
)
BARE = Answer("", "b" * 64, "", "", None, None, 0, 0, 7, 1, "1" * 64, "2" * 64)
BARE_ROW = (
    '{"text":"","provider":"' + "b" * 64 + '","model":"","sha256":"","usage":null,"finish":null,"queue_ms":0,'
    '"run_ms":0,"latency_ms":7,"attempts":1,"request_id":"' + "1" * 64 + '","result_id":"' + "2" * 64 + '","paid":0,'
    '"verified":["signature"]}'
)


def test_the_same_questions_have_the_same_digest_in_every_version_whatever_time_they_are_given():
    assert digest_of(SPECS) == DIGEST
    assert digest_of(SPECS[::-1]) != DIGEST


async def test_answers_are_written_as_they_always_were_and_come_back_whole(tmp_path):
    database = await Database.open(tmp_path / "pylon.db", [SWARM])
    group = GroupCommit(database)
    group.start()
    journal = await RunJournal.open(database, group, SystemClock(), SPECS, resume=False)
    journal.filled(0, WHOLE)
    journal.filled(1, BARE)
    await journal.ended()
    rows = await database.fetch_all("SELECT answer FROM swarm_outcome ORDER BY place")
    assert [row["answer"] for row in rows] == [WHOLE_ROW, BARE_ROW]
    again = await RunJournal.open(database, group, SystemClock(), SPECS, resume=True)
    assert (await again.kept()).answers == {0: WHOLE, 1: BARE}
    await group.close()
    await database.close()
