"""Deletes old rows of the journal and the accounts, so that a node that runs for years does not fill its disk."""

import asyncio

from pylon.clock import BELIEVED_S, Clock
from pylon.forever import forever
from pylon.provider.intake.refused_requests import KEEP_S as KEEP_REFUSED_S
from pylon.provider.journal import Journal
from pylon.provider.payments.settlement import Settlement
from pylon.tasks import Tasks

# A result may be asked for again for an hour after its job's deadline. `pylon earnings` looks back 90 days.
KEEP_RESULTS_S = 3_600
KEEP_ROWS_S = 90 * 86_400
EVERY_S = 600


class Housekeeping:
    """Cleans up when it starts, and then every ten minutes."""

    def __init__(self, *, journal: Journal, settlement: Settlement, clock: Clock) -> None:
        self._journal = journal
        self._settlement = settlement
        self._clock = clock
        self._tasks = Tasks()

    def start(self) -> None:
        """Starts cleaning up in the background."""
        self._tasks.start(forever(self._clean_up, "housekeeping"), "housekeeping")

    async def close(self) -> None:
        """Stops cleaning up."""
        await self._tasks.close()

    async def _clean_up(self) -> None:
        now = self._clock.wall()
        # Rows grow old by the dates of later jobs. With a date far ahead all would be old at once, and a request that
        # a relay delivers again, once the date is right, would be done and charged again.
        rows_before = await self._journal.latest(until=now - BELIEVED_S) - KEEP_ROWS_S
        await self._journal.forget(results_before=now - KEEP_RESULTS_S, rows_before=rows_before)
        await self._journal.forget_refusals(before=now - KEEP_REFUSED_S)
        await self._settlement.forget(before=rows_before)
        await asyncio.sleep(EVERY_S)
