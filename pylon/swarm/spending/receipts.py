"""Late receipts: those of jobs whose customer process died, or stopped waiting before the result came.

The provider did the work and charged for it, and its later receipts build on that charge. So at start, and while an
account has a gap, relays are asked for the results of requests that were ordered and have no receipt. For a cancelled
job they are also asked for the cancellation and the pieces of the answer, which show how much was delivered.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from pylon import log
from pylon.errors import DecryptionError, MalformedError, TooLargeError, UnreachableError
from pylon.jobs.feedback import Status, parse_feedback
from pylon.jobs.kinds import DELETION, FEEDBACK, result_kind
from pylon.jobs.result import Finish, parse_result
from pylon.money.accounts.usage import check_part
from pylon.money.msat import Msat
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.swarm.providers.presence import CHUNK
from pylon.swarm.spending.purse import Bill, Owed, Purse
from pylon.swarm.spending.shown import shown_by
from pylon.swarm.transport import Transport

logger = log.get("swarm")

# Seconds between queries: a provider whose gap is not explained within a minute is suspended.
EVERY_S = 5.0
# At start relays are still being connected.
SOON_S = 0.25


class LateReceipts:
    """See the module. `customer` is our public key; `waited_for` says whether the answer to a request is still waited
    for; `booked` is called with a request and its charge."""

    def __init__(
        self,
        pool: Transport,
        purse: Purse,
        keys: ConversationKeys,
        customer: str,
        waited_for: Callable[[str], bool],
        booked: Callable[[str, Msat], None],
    ) -> None:
        self._pool = pool
        self._purse = purse
        self._keys = keys
        self._customer = customer
        self._waited_for = waited_for
        self._booked = booked
        # Set when the receipts that were missing at start have been asked for once.
        self.caught_up = asyncio.Event()

    async def run(self) -> None:
        """Asks until cancelled."""
        at_start, wait_s = True, SOON_S
        while True:
            try:
                if await self._ask(at_start=at_start):
                    at_start = False
                    self.caught_up.set()
            except Exception as error:
                # A database that was busy or full for a moment: what is owed is asked for again.
                logger.error("late receipts could not be asked for", exc_info=error)
            await asyncio.sleep(min(wait_s, EVERY_S) if at_start else EVERY_S)
            wait_s *= 2

    async def _ask(self, *, at_start: bool) -> bool:
        owed = await self._purse.unanswered(at_start=at_start)
        sought = {one.request: one for one in owed if not self._waited_for(one.request)}
        requests = list(sought)
        # What was found to have been sent of cancelled jobs: asked for once a job, however many results it has.
        sent: dict[str, int | None] = {}
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
                try:
                    await self._book(event, sought.get(event.tag("e") or ""), sent)
                except UnreachableError:
                    return False
        return True

    async def _book(self, event: Event, owed: Owed | None, sent: dict[str, int | None]) -> None:
        if owed is None or event.pubkey != owed.offer.listing.provider or event.tag("p") != self._customer:
            return
        with suppress(MalformedError, DecryptionError, TooLargeError):
            result = parse_result(event, self._keys)
            sent_bytes = None
            if result.finish is Finish.CANCELLED:
                if owed.request not in sent:
                    sent[owed.request] = await self._sent_bytes(owed)
                sent_bytes = sent[owed.request]
                if check_part(result.completion_tokens, sent_bytes) is not None:
                    # A relay that was not reached may have the proof. Without it the account keeps its gap.
                    logger.info("nothing shows that this was sent", job=owed.request, provider=event.pubkey)
                    return
            signed_at = max(event.created_at, owed.asked_at)
            bill = Bill(event.pubkey, self._customer, owed.request, signed_at, sent_bytes)
            if (booking := self._purse.accept(bill, owed.offer, result)) is None:
                # This copy has no receipt; another one may have.
                return
            charged = await booking
            logger.info("a late receipt", job=owed.request, provider=event.pubkey, msat=charged)
            if charged is not None:
                self._booked(owed.request, charged)

    async def _sent_bytes(self, owed: Owed) -> int | None:
        """How many bytes of an answer were sent in pieces; None for a job that we did not take back."""
        about, provider = {"e": frozenset({owed.request})}, owed.offer.listing.provider
        wanted = (
            Filter(kinds=frozenset({DELETION}), authors=frozenset({self._customer}), tags=about),
            Filter(kinds=frozenset({FEEDBACK}), authors=frozenset({provider}), tags=about),
        )
        taken_back, pieces = False, []
        for event in await self._pool.query(wanted, timeout=5.0):
            taken_back |= event.kind == DELETION
            if event.kind == FEEDBACK:
                with suppress(MalformedError, DecryptionError, TooLargeError):
                    feedback = parse_feedback(event, self._keys)
                    if feedback.status is Status.PARTIAL:
                        pieces.append((feedback.offset or 0, feedback.text))
        return shown_by(pieces).bytes if taken_back else None
