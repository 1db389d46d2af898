"""Providers as relays tell of them: one subscription that feeds the directory, and what it left out asked for."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from pylon import log
from pylon.clock import Clock
from pylon.errors import MalformedError, UnreachableError
from pylon.forever import forever
from pylon.jobs.heartbeat import EXPIRY_S
from pylon.jobs.kinds import ANNOUNCEMENT, DELETION, HEARTBEAT, REQUEST_KINDS
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.swarm.providers.directory import Change, Directory, ProviderUp
from pylon.swarm.transport import Subscription, Transport

logger = log.get("swarm")

BATCH = 256
# Common relay software answers a query with 500 events at most.
CHUNK = 200
CHUNKS_AT_ONCE = 5
ASK_AGAIN_S = 60.0
# How far clocks of other machines may be off.
SKEW_S = 900
WARM_KEYS = 2_000


class Presence:
    """`changed` is called with every change of the directory."""

    def __init__(
        self,
        pool: Transport,
        directory: Directory,
        keys: ConversationKeys,
        clock: Clock,
        changed: Callable[[Change], None],
    ) -> None:
        self.caught_up = asyncio.Event()
        self._pool = pool
        self._directory = directory
        self._keys = keys
        self._clock = clock
        self._changed = changed
        self._cold: deque[str] = deque(maxlen=WARM_KEYS)
        self._asked_for: dict[str, float] = {}

    async def run(self) -> None:
        """Listens until cancelled."""
        subscription = self._pool.subscribe(self._filters, name="presence")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(forever(partial(self._read, subscription), "presence"))
                group.create_task(self._catch_up(subscription))
        finally:
            await subscription.close()

    async def _read(self, subscription: Subscription) -> None:
        for received in await subscription.next_batch(BATCH):
            self._observe(received.event)
        # A full queue would be read without a pause, and nothing else would run.
        await asyncio.sleep(0)

    async def _catch_up(self, subscription: Subscription) -> None:
        await subscription.caught_up.wait()
        await asyncio.sleep(0)
        try:
            await self.complete()
        except Exception as error:
            # What is lacking is asked for again. What relays know is here, and must still be heard.
            logger.error("announcements could not be asked for", exc_info=error)
        self.caught_up.set()

    async def complete(self) -> None:
        """Asks for announcements of those who beat without one.

        A relay answers a REQ with a few hundred stored events, and leaves out the rest without a word.
        """
        now = self._clock.monotonic()
        again = now - ASK_AGAIN_S
        if len(self._asked_for) > 10 * CHUNK * CHUNKS_AT_ONCE:
            self._asked_for.clear()
        lacking = [key for key in self._directory.unannounced() if self._asked_for.get(key, again) <= again]
        for at in range(0, min(len(lacking), CHUNK * CHUNKS_AT_ONCE), CHUNK):
            authors = lacking[at : at + CHUNK]
            self._asked_for.update(dict.fromkeys(authors, now))
            sought = Filter(kinds=frozenset({ANNOUNCEMENT}), authors=frozenset(authors))
            with suppress(UnreachableError):
                for event in await self._pool.query((sought,), timeout=5.0):
                    self._observe(event)

    def expire(self) -> None:
        """Lets go of those whose time is over."""
        for change in self._directory.expire(self._clock.wall()):
            self._changed(change)

    def warm_one(self) -> bool:
        """Agrees on a key with one more provider, ahead of need; whether there was one left.

        It takes a millisecond: better while nothing is asked than when a thousand jobs wait for it.
        """
        if not self._cold:
            return False
        with suppress(MalformedError):
            self._keys.get(self._cold.popleft())
        return True

    def _filters(self) -> tuple[Filter, ...]:
        now = int(self._clock.wall())
        kinds = frozenset(map(str, REQUEST_KINDS))
        return (
            Filter(kinds=frozenset({HEARTBEAT}), since=now - EXPIRY_S - SKEW_S),
            Filter(kinds=frozenset({ANNOUNCEMENT}), tags={"k": kinds}),
            Filter(kinds=frozenset({DELETION}), tags={"k": frozenset({str(ANNOUNCEMENT)})}, since=now - SKEW_S),
        )

    def _observe(self, event: Event) -> None:
        try:
            changes = self._directory.observe(event, self._clock.wall())
        except MalformedError as error:
            logger.debug("presence not understood", kind=event.kind, author=event.pubkey, error=str(error))
            return
        except Exception as error:
            # A fault of ours, brought up by what one of them says: the others must still be heard.
            logger.error("what a provider says could not be taken in", author=event.pubkey, exc_info=error)
            return
        for change in changes:
            if isinstance(change, ProviderUp) and not change.listing.plain:
                self._cold.append(change.listing.provider)
            try:
                self._changed(change)
            except Exception as error:
                # The same.
                logger.error("a provider could not be taken in", author=event.pubkey, exc_info=error)
