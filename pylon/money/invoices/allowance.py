"""How many invoices are made for keys that have never paid: a wallet keeps each for ever, and keys cost nothing.

Those that are being made count as well as those that were: a wallet may take its time, and a thousand keys may ask
in one second.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pylon.clock import Clock
from pylon.money.invoices import store as invoice_store
from pylon.money.limits import HOUR_S
from pylon.store.database import Database

# An hour.
MAX_STRANGER_INVOICES = 200
# So seldom is one more made beyond that: an hour's worth must not be used up in a second, and then be nobody's.
PACE_S = HOUR_S / MAX_STRANGER_INVOICES
# A wallet that is asked for hundreds at once answers none in time, and whoever has paid waits behind them.
AT_ONCE = 8


class Allowance:
    """Over the invoices of one database. Whoever has paid once may have as many as it needs."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        # Those that are being made for keys that have never paid.
        self._making = 0
        self._turn = asyncio.Lock()
        self._slots = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def place(self, customer: str) -> AsyncIterator[bool]:
        """Whether an invoice may be made for this customer now. It counts until the block ends: by then it is on
        disk, or there is none."""
        if await invoice_store.has_paid(self._database, customer):
            yield True
            return
        # One at a time counts and takes its place: nobody else does so between the two.
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
        # Before the rows: what is written down meanwhile counts twice, and never not at all.
        making, now = self._making, self._clock.wall()
        issued = await invoice_store.count_to_strangers(self._database, since=now - HOUR_S)
        if issued + making < MAX_STRANGER_INVOICES:
            return True
        return not making and not await invoice_store.count_to_strangers(self._database, since=now - PACE_S)
