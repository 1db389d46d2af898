"""Whether the database can be written: while it cannot, no job is taken on.

A disk that is full or gone may recover, so a write is tried again and again. A damaged database does not recover: one
row may still be written while the next job is lost.
"""

import asyncio
import sqlite3
from collections.abc import Callable

from pylon import log
from pylon.clock import Clock
from pylon.provider.journal import Journal
from pylon.store.faults import is_damage, told
from pylon.tasks import Tasks

logger = log.get("provider")

# The setting that a try writes.
WRITTEN = "written_again"
# After a write has failed, the time between two tries, in seconds.
WRITE_AGAIN_S = 10.0


class Writable:
    """Watches the writes to the journal; `changed` is called when they begin to fail or work again."""

    def __init__(self, *, journal: Journal, clock: Clock, changed: Callable[[], None]) -> None:
        self._journal = journal
        self._clock = clock
        self._changed = changed
        # Runs while the disk cannot be written.
        self._trying: asyncio.Task[None] | None = None
        self._tasks = Tasks()
        self._damaged = False

    @property
    def reason(self) -> str:
        """Why no job is taken on: `database`, `disk`, or empty."""
        if self._damaged:
            return "database"
        return "disk" if self._trying is not None and not self._trying.done() else ""

    def failed(self, error: sqlite3.Error) -> str:
        """Notes that a write failed. Returns the reason from now on."""
        if is_damage(error) and not self._damaged:
            self._damaged = True
            logger.error("the database is damaged; jobs are refused until it is replaced", error=str(told(error)))
            self._changed()
        elif not self.reason:
            logger.error("nothing can be written here; jobs are refused until that works again", error=str(error))
            self._trying = self._tasks.start(self._until_written(), "until written")
            self._changed()
        return self.reason

    async def close(self) -> None:
        """Stops trying."""
        await self._tasks.close()

    async def _until_written(self) -> None:
        while True:
            await asyncio.sleep(WRITE_AGAIN_S)
            try:
                await self._journal.remember(WRITTEN, str(int(self._clock.wall())))
            except sqlite3.Error as error:
                logger.warning("still nothing can be written here", error=str(error))
                continue
            self._changed()
            return
