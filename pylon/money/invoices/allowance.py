"""Limits how many invoices are made for keys that have never paid: keys cost nothing, and a wallet keeps every
invoice.

Invoices that are still being made count too: a wallet may be slow, and a thousand keys may ask in one second.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pylon.clock import Clock
from pylon.money.invoices import store as invoice_store
from pylon.money.limits import HOUR_S
from pylon.store.database import Database

# Invoices in an hour.
MAX_STRANGER_INVOICES = 200
# Beyond that one more is made in so many seconds: a flood must not use up an hour's invoices and leave none to
# others.
PACE_S = HOUR_S / MAX_STRANGER_INVOICES
# Invoices of one customer that nobody pays, in an hour. One who pays has its invoice for ten minutes.
MAX_UNPAID_INVOICES = 30
# How many are made at once: a wallet asked for hundreds answers none in time, also not for customers that have paid.
AT_ONCE = 8


class Allowance:
    """Counts the invoices of one database. A customer that has ever paid is not limited."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        # How many are being made for keys that have never paid.
        self._making = 0
        self._turn = asyncio.Lock()
        self._slots = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def place(self, customer: str) -> AsyncIterator[bool]:
        """Yields whether an invoice may be made for this customer now.

        It is counted as being made until the block ends; by then it is on disk, or was not made.
        """
        if await invoice_store.has_paid(self._database, customer):
            yield True
            return
        # Counting and taking a place are one step: no other task comes between the two.
        async with self._turn:
            free = await self._is_free()
            self._making += free
        if not free:
            yield False
            return
        try:
            async with self._slots:
                yield True
        finally:
            self._making -= 1

    async def _is_free(self) -> bool:
        # Read before the rows: an invoice that is written meanwhile is counted twice rather than not at all.
        making, now = self._making, self._clock.wall()
        # Of those that a clock which was ahead has left in the future, no more count than of the past.
        until = now + HOUR_S
        issued = await invoice_store.count_to_strangers(self._database, since=now - HOUR_S, until=until)
        if issued + making < MAX_STRANGER_INVOICES:
            return True
        if making:
            return False
        return not await invoice_store.count_to_strangers(self._database, since=now - PACE_S, until=until)
