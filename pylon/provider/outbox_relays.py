"""Which relays an event goes over, how many events are on their way to each, and which relays are waited for.

Each relay has a limit of its own. So one that does not answer, or answers `rate-limited`, delays no event that can go
over another. Publishing the same event twice does no harm (NIP-01).
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pylon import log
from pylon.errors import NotAcknowledgedError, RelayError
from pylon.nostr.client.log_limit import LogLimit
from pylon.nostr.client.relay_status import RelayStatus
from pylon.nostr.event import Event
from pylon.tasks import Tasks

logger = log.get("provider")

# The most events on their way to one relay.
AT_ONCE = 64
# How long the relays that an event is meant for have before it goes over all of them; and how long those have.
HEAD_START_S, PATIENCE_S = 3.0, 15.0
# After so many events in a row without an answer a relay is slow: it is not waited for until it takes one.
IN_A_ROW = 3


class Relays(Protocol):
    """What is needed of `pylon.nostr.pool.RelayPool`."""

    @property
    def urls(self) -> list[str]: ...

    @property
    def statuses(self) -> list[RelayStatus]: ...

    async def publish(self, event: Event, *, relays: Sequence[str], timeout: float) -> list[str]: ...


@dataclass(slots=True)
class _Way:
    """The way to one relay."""

    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    # How many events in a row the relay has neither taken nor refused in time.
    unanswered: int = 0
    # Extra events on their way while the relay is slow and another one is not: these take none of the places.
    extra: int = 0
    log_limit: LogLimit = field(default_factory=LogLimit)

    @property
    def slow(self) -> bool:
        return self.unanswered >= IN_A_ROW


class OutboxRelays:
    """`first` and `everywhere` return whether a relay has the event; a relay that refuses it raises nothing."""

    def __init__(self, pool: Relays) -> None:
        self._pool = pool
        self._ways: defaultdict[str, _Way] = defaultdict(_Way)
        self._tasks = Tasks()

    async def close(self) -> None:
        """Stops the publications that are still under way."""
        await self._tasks.close()

    async def first(self, event: Event, near: Sequence[str]) -> bool:
        """Publishes over the relays `near` its customer, and over all if those have not taken it in three seconds."""
        if len(near) == len(self._pool.urls):
            return await self.everywhere(event)
        waited_for = not all(self._ways[url].slow for url in near)
        return (waited_for and await self._over(near, event, HEAD_START_S)) or await self.everywhere(event)

    async def everywhere(self, event: Event) -> bool:
        """Publishes over all relays at once. Returns at the first `OK`; the others go on in the background."""
        return await self._over(self._pool.urls, event, PATIENCE_S)

    async def _over(self, urls: Sequence[str], event: Event, timeout: float) -> bool:
        if len(urls) == 1:
            # The usual case; a task for it would cost more than the rest of the publication.
            return await self._in_place(urls[0], event, timeout)
        opened = {one.url for one in self._pool.statuses if one.state == "open"}
        sound = {url for url in urls if url in opened and not self._ways[url].slow}
        tries = [
            self._tasks.start(
                self._as_extra(url, event, timeout)
                if sound and self._ways[url].slow
                else self._in_place(url, event, timeout),
                "publication",
            )
            for url in urls
        ]
        for ended in asyncio.as_completed(tries):
            if await ended:
                return True
        return False

    async def _in_place(self, url: str, event: Event, timeout: float) -> bool:
        way = self._ways[url]
        known = way.slow
        async with way.places:
            # The relay was found to be slow while this event waited for a place.
            if way.slow and not known:
                return False
            return await self._published(url, event, timeout)

    async def _as_extra(self, url: str, event: Event, timeout: float) -> bool:
        way = self._ways[url]
        if way.extra >= AT_ONCE:
            return False
        way.extra += 1
        try:
            return await self._published(url, event, timeout)
        finally:
            way.extra -= 1

    async def _published(self, url: str, event: Event, timeout: float) -> bool:
        way = self._ways[url]
        try:
            await self._pool.publish(event, relays=[url], timeout=timeout)
        except RelayError as error:
            way.unanswered = way.unanswered + 1 if isinstance(error, NotAcknowledgedError) else 0
            if (beside := way.log_limit.admit(asyncio.get_running_loop().time())) is not None:
                logger.warning("not published yet", id=event.id, error=str(error), **beside)
            return False
        way.unanswered = 0
        return True
