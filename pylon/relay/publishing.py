"""Events that one connection publishes: rate-limited, checked by the access rules, few at a time unanswered."""

import asyncio
from collections.abc import Awaitable, Callable, Container
from functools import partial

from pylon.clock import Clock
from pylon.nostr.event import Event
from pylon.nostr.messages import Ok
from pylon.relay import access
from pylon.relay.intake import Intake
from pylon.relay.limits import RelayLimits, TokenBucket


class Publishing:
    """See the module. `tell` sends an answer to the client; `writers` are the keys that may publish (None: all)."""

    def __init__(
        self,
        intake: Intake,
        tell: Callable[[Ok], None],
        *,
        limits: RelayLimits,
        clock: Clock,
        require_auth: bool,
        writers: Container[str] | None,
    ) -> None:
        self._intake = intake
        self._tell = tell
        self._limits = limits
        self._clock = clock
        self._require_auth = require_auth
        self._writers = writers
        self._in_flight = 0
        self._answered = asyncio.Event()
        self._bucket: TokenBucket | None = None
        if limits.writes_per_minute is not None:
            self._bucket = TokenBucket(limits.writes_per_minute, clock.monotonic())

    def publish(self, event: Event, keys: frozenset[str]) -> Awaitable[None] | None:
        """Checks an event from a client with these keys and submits it.

        Returns what the caller has to await before it reads on, when there is no room for the event now; else None.
        """
        if self._bucket is not None and not self._bucket.take(self._clock.monotonic()):
            allowed = self._limits.writes_per_minute
            self._tell(Ok(event.id, False, f"rate-limited: at most {allowed} events a minute on a connection"))
            return None
        raw = event.to_json()
        reason = access.refuse_event(
            event,
            size=len(raw),
            now=self._clock.wall(),
            limits=self._limits,
            keys=keys,
            require_auth=self._require_auth,
            writers=self._writers,
        )
        if reason is not None:
            self._tell(Ok(event.id, False, reason))
            return None
        if self._in_flight >= self._limits.in_flight or not self._intake.has_room():
            return self._submit_later(event, raw)
        self._submit(event, raw)
        return None

    async def _submit_later(self, event: Event, raw: bytes) -> None:
        while self._in_flight >= self._limits.in_flight:
            self._answered.clear()
            await self._answered.wait()
        await self._intake.room()
        self._submit(event, raw)

    def _submit(self, event: Event, raw: bytes) -> None:
        self._in_flight += 1
        self._intake.submit(event, raw, partial(self._answer, event.id))

    def _answer(self, event_id: str, accepted: bool, text: str) -> None:
        self._in_flight -= 1
        self._answered.set()
        self._tell(Ok(event_id, accepted, text))
