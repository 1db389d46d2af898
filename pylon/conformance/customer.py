"""A customer that no provider has seen before: one key, what it asked, and what came back for it.

Every probe has one of its own, so that an answer that names no request still belongs to one, and the provider's
limits for one customer are never met.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pylon.conformance import wire
from pylon.conformance.wire import Opened
from pylon.errors import UnreachableError, WireError
from pylon.jobs.kinds import FEEDBACK
from pylon.jobs.request import is_plain
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event, EventDraft
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.nostr.pool_subscription import PoolSubscription
from pylon.tasks import Tasks

# Relays lose live events: what they have stored is asked for this often.
LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Heard:
    """An event for this customer, and when it came (monotonic seconds)."""

    event: Event
    at: float


class Customer:
    """An async context manager. Raises `UnreachableError` when no relay can be reached."""

    def __init__(self, relays: Sequence[str], provider: str) -> None:
        self.secret = SecretKey.generate()
        self.keys = ConversationKeys(self.secret)
        self.provider = provider
        self.asked: dict[str, Event] = {}
        self.heard: list[Heard] = []
        self._pool = RelayPool(relays, secret=self.secret)
        self._subscription: PoolSubscription | None = None
        self._changed = asyncio.Event()
        self._tasks = Tasks()

    async def __aenter__(self) -> Self:
        self._pool.start()
        try:
            await self._pool.wait_open()
        except UnreachableError:
            await self._pool.close()
            raise
        self._subscription = self._pool.subscribe(lambda: (self._mine(),), name="answers")
        with suppress(TimeoutError):
            await asyncio.wait_for(self._subscription.caught_up.wait(), 5.0)
        self._tasks.start(self._listen(self._subscription), "listening for answers")
        self._tasks.start(self._look(self._subscription), "looking for answers")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._tasks.close()
        if self._subscription is not None:
            await self._subscription.close()
        await self._pool.close()

    def sign(self, draft: EventDraft) -> Event:
        """Signs a request, and remembers that it was asked."""
        event = self.secret.sign(draft)
        self.asked[event.id] = event
        return event

    async def send(self, event: Event) -> None:
        """Publishes on all relays. Raises `RelayError`."""
        await self._pool.publish(event)

    async def ask(self, draft: EventDraft) -> Event:
        """Signs and publishes a request."""
        event = self.sign(draft)
        await self.send(event)
        return event

    def opened(self, event: Event) -> Opened:
        """What an answer says, read as the customer of its request reads it. Raises `WireError`."""
        request = self.asked.get(event.tag("e") or "")
        return wire.opened(event, self.keys, plain=request is not None and is_plain(request))

    def results(self) -> list[Heard]:
        """What came that is no feedback: the provider's own first, since anyone may write to a key."""
        found = [heard for heard in self.heard if wire.is_result(heard.event)]
        return sorted(found, key=lambda heard: heard.event.pubkey != self.provider)

    def feedback(self) -> list[Event]:
        """The provider's feedback."""
        mine = [heard.event for heard in self.heard if heard.event.pubkey == self.provider]
        return [event for event in mine if event.kind == FEEDBACK]

    def statuses(self) -> list[tuple[str, ...]]:
        """The values of the provider's status tags; feedback that does not open has none."""
        found: list[tuple[str, ...]] = []
        for event in self.feedback():
            with suppress(WireError):
                status = self.opened(event).find("status")
                found.append(status[1:] if status is not None else ())
        return found

    def code(self) -> str | None:
        """The code of the first error, empty when it has none."""
        errors = [status for status in self.statuses() if status[:1] == ("error",)]
        return next(((*status, "")[1] for status in errors), None)

    async def until(self, found: Callable[[], object], seconds: float) -> bool:
        """Whether `found` became true within so many seconds."""
        deadline = time.monotonic() + seconds
        while not found():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)
        return True

    async def until_answered(self, seconds: float) -> bool:
        """Whether a result, an error or a bill came."""
        return await self.until(lambda: self.results() or self.code() is not None or self.billed(), seconds)

    def billed(self) -> bool:
        """Whether payment is asked for first."""
        return any(status[:1] == ("payment-required",) for status in self.statuses())

    def _mine(self) -> Filter:
        return Filter(tags={"p": frozenset({self.secret.public})})

    async def _listen(self, subscription: PoolSubscription) -> None:
        async for received in subscription:
            self._take(received.event)

    def _take(self, event: Event) -> None:
        if event.pubkey != self.secret.public:
            self.heard.append(Heard(event, time.monotonic()))
            self._changed.set()

    async def _look(self, subscription: PoolSubscription) -> None:
        # An answer that lacks p is found by the request it names.
        while True:
            await asyncio.sleep(LOOK_S)
            if not self.asked:
                continue
            filters = (self._mine(), Filter(tags={"e": frozenset(self.asked)}))
            with suppress(UnreachableError):
                for event in await self._pool.query(filters, timeout=5.0):
                    with suppress(WireError):
                        await subscription.offer(event, "")
