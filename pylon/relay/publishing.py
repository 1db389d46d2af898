"""Events that one connection publishes: rate-limited, checked by the access rules, few at a time unanswered."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from pylon.nostr.event import Event
from pylon.nostr.messages import Ok
from pylon.relay import access
from pylon.relay.shared import Shared
from pylon.token_bucket import TokenBucket


class Publishing:
    """See the module. `tell` sends an answer to the client."""

    def __init__(self, shared: Shared, tell: Callable[[Ok], None]) -> None:
        self._shared = shared
        self._tell = tell
        self._in_flight = 0
        self._answered = asyncio.Event()
        per_minute = shared.limits.writes_per_minute
        self._bucket = None if per_minute is None else TokenBucket(per_minute, per_minute / 60)

    def publish(self, event: Event, keys: frozenset[str]) -> Awaitable[None] | None:
        """Checks an event from a client with these keys and submits it.

        Returns what the caller has to await before it reads on, when there is no room for the event now; else None.
        """
        shared = self._shared
        if self._bucket is not None and not self._bucket.take(shared.clock.monotonic()):
            allowed = shared.limits.writes_per_minute
            self._tell(Ok(event.id, False, f"rate-limited: at most {allowed} events a minute on a connection"))
            return None
        raw = event.to_json()
        reason = access.refuse_event(
            event,
            size=len(raw),
            now=shared.clock.wall(),
            limits=shared.limits,
            keys=keys,
            require_auth=shared.require_auth,
            writers=shared.writers,
        )
        if reason is not None:
            self._tell(Ok(event.id, False, reason))
            return None
        if self._in_flight >= shared.limits.in_flight or not shared.intake.has_room():
            return self._submit_later(event, raw)
        self._submit(event, raw)
        return None

    async def _submit_later(self, event: Event, raw: bytes) -> None:
        while self._in_flight >= self._shared.limits.in_flight:
            self._answered.clear()
            await self._answered.wait()
        await self._shared.intake.room()
        self._submit(event, raw)

    def _submit(self, event: Event, raw: bytes) -> None:
        self._in_flight += 1
        self._shared.intake.submit(event, raw, partial(self._answer, event.id))

    def _answer(self, event_id: str, accepted: bool, text: str) -> None:
        self._in_flight -= 1
        self._answered.set()
        self._tell(Ok(event_id, accepted, text))
