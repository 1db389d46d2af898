"""Publishes events until a relay has acknowledged them (NIP-01 `OK`), however long the relays are away."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any

from pylon import log
from pylon.clock import Clock
from pylon.jobs.size import MAX_EVENT_BYTES
from pylon.latest import Latest
from pylon.nostr.event import Event, expiration
from pylon.nostr.pool import RelayPool
from pylon.provider.outbox_relays import OutboxRelays
from pylon.records import record
from pylon.tasks import end, this_task

logger = log.get("provider")

RETRY_S = (1.0, 2.0, 5.0, 15.0, 60.0)
# For how many requests, the latest ones, the outbox remembers that their customers asked again over other relays.
MOST_ELSEWHERE = 4_096


@record
class Publication:
    """An event to publish: first on `relay`, where its request came from, then on any.

    It is dropped unpublished after `give_up_after_s` seconds, or when the event has expired (NIP-40) and no relay
    would keep it. `done` is called with whether it was published.
    """

    event: Event
    relay: str
    done: Callable[[bool], None] | None = None
    give_up_after_s: float = inf


class Outbox:
    """Holds publications in memory. Those that must survive a crash are in the journal too, and put in at the next
    start."""

    def __init__(self, pool: RelayPool, clock: Clock) -> None:
        self._pool = pool
        self._relays = OutboxRelays(pool)
        self._clock = clock
        self._sending: set[asyncio.Task[Any]] = set()
        self._elsewhere: Latest[str, tuple[str, ...]] = Latest(MOST_ELSEWHERE)
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def waiting(self) -> int:
        """How many publications are not acknowledged yet."""
        return len(self._sending)

    async def close(self) -> None:
        """Stops. Letters that were not acknowledged are dropped, without calling `done`."""
        await end(*self._sending)
        await self._relays.close()

    def event_bytes(self, relay: str) -> int:
        """The largest event that the relay takes, in bytes."""
        return self._pool.event_bytes([relay], most=MAX_EVENT_BYTES)

    def also(self, request: str, relay: str) -> None:
        """Sends answers to this request over that relay as well: its customer asked again there."""
        self._elsewhere.put(request, (*(self._elsewhere.get(request) or ()), relay))

    def put(self, publication: Publication) -> None:
        """Publishes it in the background."""
        task = asyncio.get_running_loop().create_task(self._send(publication), name="outbox")
        self._track(task)
        task.add_done_callback(self._sent)

    async def publish_and_wait(self, publication: Publication) -> bool:
        """Publishes it in the calling task, which `close` cancels; returns whether a relay has it."""
        task = this_task()
        self._track(task)
        try:
            return await self._send(publication)
        finally:
            self._sent(task)

    async def wait_empty(self, timeout: float) -> bool:
        """Whether everything was acknowledged within `timeout` seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), timeout)
        return self._empty.is_set()

    def _track(self, task: asyncio.Task[Any]) -> None:
        self._empty.clear()
        self._sending.add(task)

    def _sent(self, task: asyncio.Task[Any]) -> None:
        self._sending.discard(task)
        if not self._sending:
            self._empty.set()

    async def _send(self, publication: Publication) -> bool:
        published = False
        try:
            published = await self._deliver(publication)
            if publication.done is not None:
                publication.done(published)
        except Exception:
            logger.exception("a publication could not be handled", event=publication.event.id)
        return published

    def _near(self, publication: Publication) -> list[str]:
        asked = self._elsewhere.get(publication.event.tag("e") or "") or ()
        urls = self._pool.urls
        return [url for url in dict.fromkeys((publication.relay, *asked)) if url in urls]

    async def _deliver(self, publication: Publication) -> bool:
        event, attempt = publication.event, 0
        began, ends = self._clock.boot(), _or_never(expiration(event))
        lasts_s = ends - self._clock.wall()
        while (age_s := self._clock.boot() - began) < publication.give_up_after_s:
            # A wall clock that is wrong for a minute must not drop a paid result. So an event counts as expired only
            # when both clocks say so, and is tried once even if it had expired before.
            if attempt and age_s >= lasts_s and self._clock.wall() >= ends:
                return False
            if await (
                self._relays.everywhere(event) if attempt else self._relays.first(event, self._near(publication))
            ):
                return True
            await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
            attempt += 1
        return False


def _or_never(at: int | None) -> float:
    return inf if at is None else at
