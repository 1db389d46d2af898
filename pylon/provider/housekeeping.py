"""What the journal and the accounts forget, so that a node that runs for years does not fill its disk."""

import asyncio

from pylon.clock import Clock
from pylon.forever import forever
from pylon.provider.intake.refused import KEEP_S as KEEP_REFUSED_S
from pylon.provider.journal import Journal
from pylon.provider.payments.settlement import Settlement
from pylon.tasks import Tasks

# Answers are kept until nobody may ask for them again; the numbers of a job for as long as an owner looks back.
KEEP_RESULTS_S = 3_600
KEEP_ROWS_S = 90 * 86_400
EVERY_S = 600


class Housekeeping:
    """Looks at once when it starts, and then every ten minutes."""

    def __init__(self, *, journal: Journal, settlement: Settlement, clock: Clock) -> None:
        self._journal = journal
        self._settlement = settlement
        self._clock = clock
        self._tasks = Tasks()

    def start(self) -> None:
        """Begins."""
        self._tasks.start(forever(self._look, "housekeeping"), "housekeeping")

    async def close(self) -> None:
        """Stops."""
        await self._tasks.close()

    async def _look(self) -> None:
        now = self._clock.wall()
        await self._journal.forget(
            results_before=now - KEEP_RESULTS_S, rows_before=now - KEEP_ROWS_S, refusals_before=now - KEEP_REFUSED_S
        )
        await self._settlement.forget(before=now - KEEP_ROWS_S)
        await asyncio.sleep(EVERY_S)
