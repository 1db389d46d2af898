"""Steps that come together are one step of a commit, and each still fails for itself alone."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from pylon.store.database import Database, Schema, Transaction
from pylon.store.group import GroupCommit
from pylon.swarm.joint import JointSteps

NOTES = Schema("notes", ("CREATE TABLE note (text TEXT PRIMARY KEY) STRICT;",))


class Counting(GroupCommit):
    """Counts what is submitted."""

    steps = 0

    async def submit(self, step, *, together=False):
        self.steps += 1
        return await super().submit(step, together=together)


@asynccontextmanager
async def books(path):
    database = await Database.open(path / "a.db", [NOTES])
    group = Counting(database)
    group.start()
    yield database, group
    await group.close()
    await database.close()


def note(text: str, *, then: Exception | None = None):
    async def step(tx: Transaction) -> str:
        await tx.execute("INSERT INTO note VALUES (?)", (text,))
        if then is not None:
            raise then
        return text.upper()

    return step


async def texts(database) -> list[str]:
    return [row[0] for row in await database.fetch_all("SELECT text FROM note ORDER BY rowid")]


async def test_what_comes_in_one_turn_is_one_step_and_on_disk_when_it_is_answered(tmp_path):
    async with books(tmp_path) as (database, group):
        joint = JointSteps(group)
        assert await asyncio.gather(*(joint.submit(note(text)) for text in "cab")) == ["C", "A", "B"]
        assert group.steps == 1
        assert await texts(database) == ["c", "a", "b"]


async def test_one_that_fails_undoes_itself_and_no_other(tmp_path):
    async with books(tmp_path) as (database, group):
        joint = JointSteps(group)
        steps = (note("a"), note("b", then=ValueError("no")), note("c"), note("a"))
        first, failed, third, again = await asyncio.gather(*map(joint.submit, steps), return_exceptions=True)
        assert (first, third) == ("A", "C")
        assert isinstance(failed, ValueError) and "UNIQUE" in str(again)
        assert await texts(database) == ["a", "c"]


async def test_a_caller_that_goes_away_does_not_undo_its_step(tmp_path):
    async with books(tmp_path) as (database, group):
        joint = JointSteps(group)
        going, staying = (asyncio.create_task(joint.submit(note(text))) for text in "ab")
        await asyncio.sleep(0)
        going.cancel()
        assert await staying == "B"
        with pytest.raises(asyncio.CancelledError):
            await going
        assert await texts(database) == ["a", "b"]
