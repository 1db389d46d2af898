"""Stores published events in groups, one transaction for each group, and then delivers them.

Events are collected while the previous transaction runs and for a moment after it, so that under load one commit
serves hundreds of them, and without load none waits. An event is delivered, and its OK sent, only after the commit.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence

from pylon import log
from pylon.errors import SignatureError
from pylon.nostr.event import Event, is_ephemeral, verify
from pylon.relay.retention import DELETION_KIND, Outcome, address, deletions
from pylon.relay.rows import Publication
from pylon.relay.store import EventStore, Placed
from pylon.store.rest import rest

# The most events and index entries in a transaction, unless one event alone brings more. It is written in one turn of
# the event loop, which must stay short: an entry takes some 10 µs, and an event may have five thousand.
_BATCH, _BATCH_ENTRIES = 256, 2_000
# How many ids of accepted events are remembered, to recognise repeats without a look into the file. Versions of
# replaceable events are not: one that was replaced is stored again when it comes after the newer one was deleted.
_RECENT = 20_000

_log = log.get("relay")

type Answer = Callable[[bool, str], None]
type Deliver = Callable[[Event, bytes, int], None]

_SAID = {
    Outcome.STORED: (True, ""),
    Outcome.DUPLICATE: (True, "duplicate: this event is stored already"),
    Outcome.SUPERSEDED: (True, "duplicate: a newer version of this event is stored"),
    Outcome.DELETED: (False, "blocked: its author asked to have this event deleted"),
    Outcome.FAILED: (False, "error: the relay could not store the event; try again later"),
    Outcome.FULL: (False, "error: this relay is full and has no room for the event; try again later"),
}

_THERE = frozenset((Outcome.STORED, Outcome.DUPLICATE))


def fitting(events: Sequence[Event], entries: int) -> int:
    """How many of these events, from the first on, go into a transaction of that many index entries: at least one."""
    total = 0
    for count, event in enumerate(events):
        total += len(event.tags)
        if total > entries:
            return max(1, count)
    return len(events)


class Intake:
    """Stores events that the access rules accept. `deliver(event, raw, seq)` is called once for each new event; `seq`
    is 0 for an ephemeral one, which is not stored. `max_bytes` bounds the JSON that waits to be committed.
    """

    def __init__(self, store: EventStore, deliver: Deliver, *, max_bytes: int) -> None:
        self._store = store
        self._deliver = deliver
        self._max_bytes = max_bytes
        self._bytes = 0
        self._committed = asyncio.Event()
        self._waiting: list[tuple[Publication, Answer]] = []
        self._filled = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._is_full = False
        self.delivered_seq = store.last_seq
        """All events up to this number have been delivered, by this process or an earlier one."""

    def has_room(self) -> bool:
        """Whether fewer than `max_bytes` wait to be committed."""
        return self._bytes < self._max_bytes

    async def room(self) -> None:
        """Waits until fewer than `max_bytes` wait to be committed."""
        while not self.has_room():
            self._committed.clear()
            await self._committed.wait()

    def submit(self, event: Event, raw: bytes, answer: Answer) -> None:
        """Queues an event; `answer(accepted, message)` is called once, now or after the commit."""
        # Most events come more than once (publishers retry, and other relays forward them): a signature that was
        # found valid is not checked again.
        if event.id in self._recent:
            answer(*_SAID[Outcome.DUPLICATE])
            return
        try:
            verify(event)
        except SignatureError as error:
            answer(False, f"invalid: {error}")
            return
        if is_ephemeral(event.kind):
            self._remember(event)
            answer(True, "")
            self._deliver(event, raw, 0)
            return
        self._waiting.append((Publication(event, raw), answer))
        self._bytes += len(raw)
        self._idle.clear()
        self._filled.set()

    async def run(self) -> None:
        """Commits batches until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._waiting:
                began = loop.time()
                fit = fitting([publication.event for publication, _ in self._waiting[:_BATCH]], _BATCH_ENTRIES)
                batch, self._waiting = self._waiting[:fit], self._waiting[fit:]
                await self._commit(batch)
                self._bytes -= sum([len(publication.raw) for publication, _ in batch])
                self._committed.set()
                if not self._waiting:
                    self._idle.set()
                await rest(loop.time() - began, len(batch))
                # After a few costly events there is no rest, and others must still get their turn.
                await asyncio.sleep(0)

    async def drain(self) -> None:
        """Waits until everything that was submitted has its answer."""
        await self._idle.wait()

    async def _commit(self, batch: list[tuple[Publication, Answer]]) -> None:
        try:
            placed = await self._store.insert([publication for publication, _ in batch])
        except Exception as error:
            # A full disk must not end the relay: publishers are told, and later events are tried again.
            _log.error("events could not be stored", events=len(batch), error=str(error))
            placed = [Placed(Outcome.FAILED)] * len(batch)
        is_full = any(place.outcome is Outcome.FULL for place in placed)
        if is_full and not self._is_full:
            _log.warning("the relay is full: events are refused")
        self._is_full = is_full
        for (publication, answer), place in zip(batch, placed, strict=True):
            try:
                try:
                    answer(*_SAID[place.outcome])
                finally:
                    self._finish(publication, place)
            except Exception:
                # Only this event is lost. An error let through would end `run`, and the relay would store nothing
                # more while its connections still work.
                _log.exception("the outcome of an event could not be reported", id=publication.event.id)

    def _finish(self, publication: Publication, place: Placed) -> None:
        event, outcome = publication.event, place.outcome
        if outcome in _THERE and address(event) is None:
            self._remember(event)
        if outcome is Outcome.STORED:
            if event.kind == DELETION_KIND:
                self._forget(event)
            self._deliver(event, publication.raw, place.seq)
            self.delivered_seq = max(self.delivered_seq, place.seq)

    def _forget(self, deletion: Event) -> None:
        for target, _ in deletions(deletion):
            self._recent.pop(target, None)

    def _remember(self, event: Event) -> None:
        self._recent[event.id] = None
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)
