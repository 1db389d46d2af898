"""A customer with a new key: sends requests, and collects everything that is addressed to it.

Every probe has a customer of its own. So an answer that names no request can still be assigned to a probe, and no
probe meets the provider's limits for one customer.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pylon.conformance import wire
from pylon.conformance.wire import OpenedAnswer
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

# Seconds between queries of stored events, since relays lose live ones.
LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Received:
    """An event addressed to this customer, and its time of arrival (monotonic seconds)."""

    event: Event
    at: float


class Customer:
    """An async context manager, which raises `UnreachableError` if no relay can be reached.

    `asked` are its requests by id, `heard` all events that came for it.
    """

    def __init__(self, relays: Sequence[str], provider: str) -> None:
        self.secret = SecretKey.generate()
        self.keys = ConversationKeys(self.secret)
        self.provider = provider
        self.asked: dict[str, Event] = {}
        self.heard: list[Received] = []
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
        """Signs a request and remembers it in `asked`."""
        event = self.secret.sign(draft)
        self.asked[event.id] = event
        return event

    async def send(self, event: Event) -> None:
        """Publishes an event on all relays. Raises `RelayError`."""
        await self._pool.publish(event)

    async def ask(self, draft: EventDraft) -> Event:
        """Signs and publishes a request. Raises `RelayError`."""
        event = self.sign(draft)
        await self.send(event)
        return event

    def opened(self, event: Event) -> OpenedAnswer:
        """Reads an answer in the form that its request calls for. Raises `WireError`."""
        request = self.asked.get(event.tag("e") or "")
        return wire.opened(event, self.keys, plain=request is not None and is_plain(request))

    def results(self) -> list[Received]:
        """All events that are no feedback, those of the provider first: anybody may write to a public key."""
        found = [heard for heard in self.heard if wire.is_result(heard.event)]
        return sorted(found, key=lambda heard: heard.event.pubkey != self.provider)

    def provider_results(self) -> list[Received]:
        """The provider's own results: what others write to the customer's key says nothing of what it refuses."""
        return [heard for heard in self.results() if heard.event.pubkey == self.provider]

    def feedback(self) -> list[Event]:
        """The provider's feedback."""
        mine = [heard.event for heard in self.heard if heard.event.pubkey == self.provider]
        return [event for event in mine if event.kind == FEEDBACK]

    def statuses(self) -> list[tuple[str, ...]]:
        """The values of the status tags in the provider's feedback; empty for feedback without one."""
        found: list[tuple[str, ...]] = []
        for event in self.feedback():
            with suppress(WireError):
                status = self.opened(event).find("status")
                found.append(status[1:] if status is not None else ())
        return found

    def code(self) -> str | None:
        """The code of the first error feedback: empty if it has no code, None if there is no error."""
        errors = [status for status in self.statuses() if status[:1] == ("error",)]
        return next(((*status, "")[1] for status in errors), None)

    async def until(self, found: Callable[[], object], seconds: float) -> bool:
        """Waits until `found` returns something true; False if it did not within so many seconds."""
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
        """Waits for a result, an error or a request for payment; False if none came in time."""
        return await self.until(lambda: self.results() or self.code() is not None or self.billed(), seconds)

    async def until_provider_answered(self, seconds: float) -> bool:
        """The same of the provider alone."""
        return await self.until(lambda: self.provider_results() or self.code() is not None or self.billed(), seconds)

    def billed(self) -> bool:
        """Whether the provider asked for payment."""
        return any(status[:1] == ("payment-required",) for status in self.statuses())

    def _mine(self) -> Filter:
        return Filter(tags={"p": frozenset({self.secret.public})})

    async def _listen(self, subscription: PoolSubscription) -> None:
        async for received in subscription:
            self._take(received.event)

    def _take(self, event: Event) -> None:
        if event.pubkey != self.secret.public:
            self.heard.append(Received(event, time.monotonic()))
            self._changed.set()

    async def _look(self, subscription: PoolSubscription) -> None:
        # By request as well, which finds an answer that lacks its p tag.
        while True:
            await asyncio.sleep(LOOK_S)
            if not self.asked:
                continue
            filters = (self._mine(), Filter(tags={"e": frozenset(self.asked)}))
            with suppress(UnreachableError):
                for event in await self._pool.query(filters, timeout=5.0):
                    with suppress(WireError):
                        await subscription.offer(event, "")
