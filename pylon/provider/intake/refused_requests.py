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
# The most that are remembered one by one: a flood has more in half an hour than memory should hold.
MOST = 100_000
# How many rows of others there may be on disk before they are deleted together.
SURPLUS = 5_000


class RefusedRequests:
    """The refused requests, by id. Of those beyond the latest `MOST` it is only remembered when there were any."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        # The code and the time (Unix seconds) of each, the oldest first.
        self._said: dict[str, tuple[ErrorCode, float]] = {}
        # The time (Unix seconds) of the latest one that was forgotten early.
        self._forgotten_until = 0.0
        # How many were forgotten early since such rows were deleted.
        self._surplus = 0
        # Rows that could not be written yet.
        self._unwritten: list[tuple[str, str, float]] = []

    async def start(self) -> None:
        """Reads the refusals of earlier processes from the journal. Raises `sqlite3.Error`."""
        for row in await self._journal.refused(since=self._clock.wall() - KEEP_S, most=MOST + 1):
            self._said[row["id"]] = _code(row["code"]), row["said_at"]
        self._forget_beyond_most()

    def code(self, request: str) -> ErrorCode | None:
        """The code that a request was refused with; None if it was not."""
        said = self._said.get(request)
        return None if said is None else said[0]

    def may_be_forgotten(self, created_at: int) -> bool:
        """Whether a request of that time (Unix seconds), for which there is no code, may have been refused."""
        return created_at <= self._forgotten_until

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
        self._forget_beyond_most()
        rows, self._unwritten = [*self._unwritten, *((id_, code.value, now) for id_, code in refusals)], []
        try:
            await self._journal.refuse(rows)
        except sqlite3.Error as error:
            logger.warning("refusals could not be stored", error=str(error))
            # One more than is remembered: by that the next process knows that there were others.
            self._unwritten = [row for row in rows[-MOST - 1 :] if row[2] > now - KEEP_S]
        if self._surplus >= SURPLUS:
            await self._delete_surplus()

    def _forget_beyond_most(self) -> None:
        while len(self._said) > MOST:
            _, self._forgotten_until = self._said.pop(next(iter(self._said)))
            self._surplus += 1

    async def _delete_surplus(self) -> None:
        self._surplus = 0
        try:
            # The latest of them stays: by its row the next process knows until when some were forgotten.
            await self._journal.forget_refusals(before=self._forgotten_until)
        except sqlite3.Error as error:
            logger.warning("old refusals could not be deleted", error=str(error))


def _code(written: str) -> ErrorCode:
    try:
        return ErrorCode(written)
    except ValueError:
        # A code of another version of Pylon. It counts that the request was refused, not why.
        return ErrorCode.BUSY
