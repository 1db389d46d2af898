"""Remembers which requests were refused: they stay refused, because their customers have gone elsewhere.

A relay may deliver a request again, also to the next process, when there would be room for it. If it was done then,
its customer would be charged for a job that it was told is refused.
"""

import sqlite3
from collections.abc import Sequence

from pylon import log
from pylon.clock import Clock
from pylon.jobs.codes import ErrorCode
from pylon.provider.journal import Journal

logger = log.get("provider")

# Relays are asked for requests of the last 900 s, and a request may be dated 900 s ahead.
KEEP_S = 1_800.0


class Refused:
    """The refused requests, by id. `RefusalBudget` bounds how many there can be."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        # The code and the time (Unix seconds) of each, the oldest first.
        self._said: dict[str, tuple[ErrorCode, float]] = {}
        # Rows that could not be written yet.
        self._unwritten: list[tuple[str, str, float]] = []

    async def start(self) -> None:
        """Reads the refusals of earlier processes from the journal. Raises `sqlite3.Error`."""
        for row in await self._journal.refused(since=self._clock.wall() - KEEP_S):
            self._said[row["id"]] = _code(row["code"]), row["said_at"]

    def code(self, request: str) -> ErrorCode | None:
        """The code that a request was refused with; None if it was not."""
        said = self._said.get(request)
        return None if said is None else said[0]

    async def remember(self, refusals: Sequence[tuple[str, ErrorCode]]) -> None:
        """Remembers requests that are about to be refused, and returns when that is on disk.

        If they cannot be written, only this process knows them; they are written with the next ones.
        """
        now = self._clock.wall()
        while self._said and self._said[oldest := next(iter(self._said))][1] <= now - KEEP_S:
            del self._said[oldest]
        for request, code in refusals:
            # Removed first, so that it becomes the latest.
            self._said.pop(request, None)
            self._said[request] = code, now
        rows, self._unwritten = [*self._unwritten, *((id_, code.value, now) for id_, code in refusals)], []
        try:
            await self._journal.refuse(rows)
        except sqlite3.Error as error:
            logger.warning("refusals could not be stored", error=str(error))
            self._unwritten = [row for row in rows if row[2] > now - KEEP_S]


def _code(written: str) -> ErrorCode:
    try:
        return ErrorCode(written)
    except ValueError:
        # A code of another version of Pylon. It counts that the request was refused, not why.
        return ErrorCode.BUSY
