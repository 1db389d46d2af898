"""Receipts that nobody waits for: of jobs whose customer died, or went away before the result came.

The provider did the work and charged for it; its later receipts follow from that charge. So at start, and while an
account has a gap, relays are asked for the results of what was ordered and never answered.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from pylon import log
from pylon.errors import DecryptionError, MalformedError, TooLargeError, UnreachableError
from pylon.jobs.kinds import result_kind
from pylon.jobs.result import parse_result
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.nip44 import ConversationKeys
from pylon.swarm.presence import CHUNK
from pylon.swarm.purse import Bill, Owed, Purse
from pylon.swarm.transport import Transport

logger = log.get("swarm")

# An account's gap is explained within a minute, or its relation ends: it is asked about several times.
EVERY_S = 5.0


class LateReceipts:
    """`customer` is our key; `waited_for` says whether somebody still waits for a request's answer."""

    def __init__(
        self,
        pool: Transport,
        purse: Purse,
        keys: ConversationKeys,
        customer: str,
        waited_for: Callable[[str], bool],
    ) -> None:
        self._pool = pool
        self._purse = purse
        self._keys = keys
        self._customer = customer
        self._waited_for = waited_for
        # Set when what was open at start has been asked for once.
        self.caught_up = asyncio.Event()

    async def run(self) -> None:
        """Asks until cancelled."""
        at_start = True
        while True:
            try:
                if await self._ask(at_start=at_start):
                    at_start = False
                    self.caught_up.set()
            except Exception as error:
                # A database that was busy or full for a moment: what is owed is asked for again.
                logger.error("late receipts could not be asked for", exc_info=error)
            await asyncio.sleep(EVERY_S)

    async def _ask(self, *, at_start: bool) -> bool:
        owed = await self._purse.unanswered(at_start=at_start)
        sought = {one.request: one for one in owed if not self._waited_for(one.request)}
        requests = list(sought)
        for at in range(0, len(requests), CHUNK):
            some = [sought[request] for request in requests[at : at + CHUNK]]
            wanted = Filter(
                kinds=frozenset(result_kind(one.kind) for one in some),
                authors=frozenset(one.offer.listing.provider for one in some),
                tags={"e": frozenset(one.request for one in some)},
            )
            try:
                events = await self._pool.query((wanted,), timeout=5.0)
            except UnreachableError:
                return False
            for event in sorted(events, key=lambda event: event.created_at):
                await self._book(event, sought.get(event.tag("e") or ""))
        return True

    async def _book(self, event: Event, owed: Owed | None) -> None:
        if owed is None or event.pubkey != owed.offer.listing.provider or event.tag("p") != self._customer:
            return
        with suppress(MalformedError, DecryptionError, TooLargeError):
            result = parse_result(event, self._keys)
            bill = Bill(event.pubkey, self._customer, owed.request, event.created_at)
            charged = await self._purse.accept(bill, owed.offer, result)
            logger.info("a late receipt", job=owed.request, provider=event.pubkey, msat=charged)
