"""Feeds the directory from the relays: one subscription, and queries for what it left out.

A relay answers with the newest few hundred stored events, and anybody can write events that are newer than those of a
provider. So the events of providers that we know are asked for by author, and stored heartbeats of the others are
read page by page.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import islice

from pylon import log
from pylon.clock import Clock
from pylon.errors import MalformedError, RelayError, UnreachableError
from pylon.forever import forever
from pylon.jobs.heartbeat import EXPIRY_S, MAX_EXPIRY_S
from pylon.jobs.kinds import ANNOUNCEMENT, DELETION, HEARTBEAT, REQUEST_KINDS
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.swarm.providers.directory import MAX_PROVIDERS, Change, Directory, ProviderUp
from pylon.swarm.transport import Subscription, Transport

logger = log.get("swarm")

BATCH = 256
# Common relay software answers a query with 500 events at most.
CHUNK = 200
CHUNKS_AT_ONCE = 5
ASK_AGAIN_S = 60.0
# How many known providers are asked for by their keys.
KNOWN = 200
# Heartbeats per page; a relay that gives fewer than `CUT` has no more.
PAGE, CUT = 500, 100
# Stored heartbeats dated further ahead are not read, as a crowd of them would come before all others.
AHEAD_S = 60
# Seconds that clocks of other machines may be off.
SKEW_S = 900
WARM_KEYS = 2_000


class Presence:
    """See the module. `changed` is called with each change of the directory; `known` gives the keys of known
    providers."""

    def __init__(
        self,
        pool: Transport,
        directory: Directory,
        keys: ConversationKeys,
        clock: Clock,
        changed: Callable[[Change], None],
        known: Callable[[], Iterable[str]],
    ) -> None:
        self.caught_up = asyncio.Event()
        self._pool = pool
        self._directory = directory
        self._keys = keys
        self._clock = clock
        self._changed = changed
        self._known = known
        self._beats = 0
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
            self._beats += received.event.kind == HEARTBEAT
            self._observe(received.event)
        # A full queue would be read without a pause, and nothing else would run.
        await asyncio.sleep(0)

    async def _catch_up(self, subscription: Subscription) -> None:
        await subscription.caught_up.wait()
        await asyncio.sleep(0)
        await self._complete()
        if self._beats < CUT:
            self.caught_up.set()
        async with asyncio.TaskGroup() as group:
            for relay in self._pool.urls:
                group.create_task(self._read_back(relay))
        self.caught_up.set()

    async def _complete(self) -> None:
        try:
            await self.complete()
        except Exception as error:
            # Missing announcements are asked for again later; the subscription must go on.
            logger.error("announcements could not be asked for", exc_info=error)

    async def _read_back(self, relay: str) -> None:
        """Reads the heartbeats that this relay has stored, the newest first, as many as the directory holds."""
        try:
            await self._read_pages(relay)
        except (RelayError, UnreachableError) as error:
            logger.debug("stored heartbeats could not be read", relay=relay, error=str(error))
            return
        except Exception as error:
            logger.error("stored heartbeats could not be read", relay=relay, exc_info=error)
            return
        await self._complete()
        # One relay is enough: another that says nothing must not hold up the caller.
        self.caught_up.set()

    async def _read_pages(self, relay: str) -> None:
        now = int(self._clock.wall())
        since, until, left = now - MAX_EXPIRY_S, now + AHEAD_S, MAX_PROVIDERS
        while left > 0 and until >= since:
            sought = Filter(kinds=frozenset({HEARTBEAT}), since=since, until=until, limit=PAGE)
            page = await self._pool.query((sought,), relays=(relay,), timeout=5.0)
            for event in page:
                self._observe(event)
            if len(page) < CUT:
                return
            left -= len(page)
            # The page may have ended within a second: that second is read again, unless it alone filled the page.
            oldest = min(event.created_at for event in page)
            until = oldest if oldest < until else until - 1

    async def complete(self) -> None:
        """Asks for the announcements of providers whose heartbeats came without one.

        A relay answers a REQ with a few hundred stored events, and leaves out the rest without saying so.
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
        """Removes the providers that have expired."""
        for change in self._directory.expire(self._clock.wall()):
            self._changed(change)

    def warm_one(self) -> bool:
        """Computes the conversation key with one more provider ahead of need; False if there was none left.

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
        known = frozenset(islice(self._known(), KNOWN))
        return (
            # By author, so that events of others cannot crowd these out of the answer.
            *((Filter(kinds=frozenset({HEARTBEAT, ANNOUNCEMENT}), authors=known),) if known else ()),
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
            # A fault of ours at one event: the others must still be heard.
            logger.error("a provider's message could not be processed", author=event.pubkey, exc_info=error)
            return
        for change in changes:
            if isinstance(change, ProviderUp) and not change.listing.plain:
                self._cold.append(change.listing.provider)
            try:
                self._changed(change)
            except Exception as error:
                # The same.
                logger.error("a provider could not be processed", author=event.pubkey, exc_info=error)
