"""The relays that letters go over: how many are under way to each at once, and which of them are waited for.

Each has places of its own, so that one that is silent, or takes less than it is given (`rate-limited`), holds up no
letter that has another way. Publishing the same event twice does no harm (NIP-01).
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pylon import log
from pylon.errors import NotAcknowledgedError, RelayError
from pylon.nostr.client.relay_status import RelayStatus
from pylon.nostr.client.relay_words import RelayWords
from pylon.nostr.event import Event
from pylon.tasks import Tasks

logger = log.get("provider")

AT_ONCE = 64
# So long a letter waits for the relays that it is meant for, where there is another, and for all of them.
HEAD_START_S, PATIENCE_S = 3.0, 15.0
# A relay that has left so many letters in a row without an answer is waited for no more, until it takes one.
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
    """To one relay. `unanswered`: the last so many letters it has neither taken nor refused in time. `hopes`: those
    that go there beside the relay that is counted on."""

    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    unanswered: int = 0
    hopes: int = 0
    words: RelayWords = field(default_factory=RelayWords)

    @property
    def slow(self) -> bool:
        return self.unanswered >= IN_A_ROW


class OutboxRelays:
    """`first` and `everywhere` say whether a relay has the event, and raise nothing for a relay that has not."""

    def __init__(self, pool: Relays) -> None:
        self._pool = pool
        self._ways: defaultdict[str, _Way] = defaultdict(_Way)
        self._tasks = Tasks()

    async def close(self) -> None:
        """Stops what goes on beside."""
        await self._tasks.close()

    async def first(self, event: Event, near: Sequence[str]) -> bool:
        """Over the relays of ours that it is meant for, and soon over all where those do not take it."""
        if len(near) == len(self._pool.urls):
            return await self.everywhere(event)
        waited_for = not all(self._ways[url].slow for url in near)
        return (waited_for and await self._over(near, event, HEAD_START_S)) or await self.everywhere(event)

    async def everywhere(self, event: Event) -> bool:
        """Over all relays at once: the first OK is enough, the others are waited for in the background."""
        return await self._over(self._pool.urls, event, PATIENCE_S)

    async def _over(self, urls: Sequence[str], event: Event, timeout: float) -> bool:
        if len(urls) == 1:
            # The usual case, and the costly part of a publication is its tasks.
            return await self._in_place(urls[0], event, timeout)
        opened = {one.url for one in self._pool.statuses if one.state == "open"}
        sound = {url for url in urls if url in opened and not self._ways[url].slow}
        tries = [
            self._tasks.start(
                self._in_hope(url, event, timeout)
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
            # Those before us have found it out: nobody waits behind them any longer.
            if way.slow and not known:
                return False
            return await self._published(url, event, timeout)

    async def _in_hope(self, url: str, event: Event, timeout: float) -> bool:
        way = self._ways[url]
        if way.hopes >= AT_ONCE:
            return False
        way.hopes += 1
        try:
            return await self._published(url, event, timeout)
        finally:
            way.hopes -= 1

    async def _published(self, url: str, event: Event, timeout: float) -> bool:
        way = self._ways[url]
        try:
            await self._pool.publish(event, relays=[url], timeout=timeout)
        except RelayError as error:
            way.unanswered = way.unanswered + 1 if isinstance(error, NotAcknowledgedError) else 0
            if (beside := way.words.tell(asyncio.get_running_loop().time())) is not None:
                logger.warning("not published yet", id=event.id, error=str(error), **beside)
            return False
        way.unanswered = 0
        return True
