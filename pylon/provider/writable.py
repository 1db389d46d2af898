"""Whether anything can be written here: while nothing can, no job is taken on.

A disk that is full or was taken away may be well again, which is tried. A database that is damaged stays so: another
row of it may still be written, and the next job is lost all the same.
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

WRITTEN = "written_again"
# So often it is tried whether something can be written, after something could not.
WRITE_AGAIN_S = 10.0


class Writable:
    """`changed` is called when this changes, either way."""

    def __init__(self, *, journal: Journal, clock: Clock, changed: Callable[[], None]) -> None:
        self._journal = journal
        self._clock = clock
        self._changed = changed
        # Runs while nothing can be written.
        self._trying: asyncio.Task[None] | None = None
        self._tasks = Tasks()
        self._damaged = False

    @property
    def reason(self) -> str:
        """A reason for taking nothing on, or empty."""
        if self._damaged:
            return "database"
        return "disk" if self._trying is not None and not self._trying.done() else ""

    def failed(self, error: sqlite3.Error) -> str:
        """Something could not be written. The reason from now on."""
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
        """Tries no more."""
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
