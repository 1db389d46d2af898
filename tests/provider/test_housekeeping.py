"""Old rows are deleted, and no others when the date is wrong."""

import math

from pylon.money.schema import MONEY
from pylon.provider import housekeeping, rows
from pylon.provider.housekeeping import KEEP_ROWS_S, Housekeeping
from pylon.provider.journal import Journal
from pylon.provider.payments.settlement import FreeSettlement
from pylon.provider.rows import SCHEMA, JobState
from tests.manual_clock import ManualClock
from tests.opened import opened_database
from tests.provider.test_journal import event, queue

DAY_S = 86_400.0


async def test_rows_of_ended_jobs_grow_old_by_the_dates_of_later_jobs_and_not_by_a_date_far_ahead(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(housekeeping, "EVERY_S", 0.0)
    async with opened_database(tmp_path / "a.db", SCHEMA, MONEY) as (database, group):
        journal, clock = Journal(database, group), ManualClock()
        keeper = Housekeeping(journal=journal, settlement=FreeSettlement(journal), clock=clock)

        async def come(name: str):
            job = event(name)
            await queue(journal, job, at=clock.wall())
            await journal.transact(lambda tx: rows.end(tx, job.id, JobState.FAILED, code="", finished_at=0.0))
            return job.id

        async def kept() -> set[str]:
            await keeper._clean_up()
            return set(await journal.known([first, second]))

        first = second = await come("first")
        assert await journal.latest(until=clock.wall() - DAY_S) == -math.inf
        assert await kept() == {first}
        clock.set_by(365 * DAY_S)
        # Customers on the same machine may ask with the same date.
        second = await come("second")
        assert await kept() == {first, second}
        clock.set_by(-365 * DAY_S)
        assert await kept() == {first, second}
        clock.advance(KEEP_ROWS_S + DAY_S)
        second = await come("third")
        assert await kept() == {first, second}
        clock.advance(DAY_S + 1)
        assert await kept() == {second}
