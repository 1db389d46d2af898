"""Requests that were refused in words, which stays so: whoever heard it has gone elsewhere.

A relay may deliver one once more, to the next process too, when there would be room for it; done by then, it would
be charged to somebody who was told that it is not.
"""

import sqlite3
from collections.abc import Sequence

from pylon import log
from pylon.clock import Clock
from pylon.jobs.codes import ErrorCode
from pylon.provider.journal import Journal

logger = log.get("provider")

# Relays are asked for no requests that are older than 900 s, and one may be dated 900 s ahead.
KEEP_S = 1_800.0


class Refused:
    """By id. How many there may be is bounded by how often somebody is told no (`RefusalBudget`)."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        # With what was said and when, in Unix seconds; the oldest first.
        self._said: dict[str, tuple[ErrorCode, float]] = {}
        # What could not be written down yet.
        self._unwritten: list[tuple[str, str, float]] = []

    async def start(self) -> None:
        """Takes up what earlier processes said."""
        for row in await self._journal.refused(since=self._clock.wall() - KEEP_S):
            self._said[row["id"]] = _code(row["code"]), row["said_at"]

    def code(self, request: str) -> ErrorCode | None:
        """What was said of this request; None: nothing."""
        said = self._said.get(request)
        return None if said is None else said[0]

    async def remember(self, refusals: Sequence[tuple[str, ErrorCode]]) -> None:
        """These are about to be refused. It returns when that is on disk; on a full one this process alone knows."""
        now = self._clock.wall()
        while self._said and self._said[oldest := next(iter(self._said))][1] <= now - KEEP_S:
            del self._said[oldest]
        for request, code in refusals:
            # One that is said again is the latest.
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
        # Another version's. That it was refused counts; what is said of it again may as well be this.
        return ErrorCode.BUSY
