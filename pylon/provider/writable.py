"""Whether anything can be written here: while nothing can, no job is taken on."""

import asyncio
import sqlite3
from collections.abc import Callable

from pylon import log
from pylon.clock import Clock
from pylon.provider.journal import Journal

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

    @property
    def reason(self) -> str:
        """A reason for taking nothing on, or empty."""
        return "disk" if self._trying is not None and not self._trying.done() else ""

    def failed(self) -> None:
        """Something could not be written."""
        if not self.reason:
            logger.error("nothing can be written here; until it can, jobs are refused")
            self._trying = asyncio.create_task(self._until_written(), name="until written")
            self._changed()

    async def close(self) -> None:
        """Tries no more."""
        if self._trying is not None:
            self._trying.cancel()
            await asyncio.gather(self._trying, return_exceptions=True)

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
