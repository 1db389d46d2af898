"""A relay's answer to a query: each event is checked as it comes, and kept while there is room for it.

Anybody may run a relay, and one that never ends its answer must not fill our memory.
"""

import sys
from itertools import chain

from pylon.errors import MalformedError
from pylon.nostr.event import Event, verify
from pylon.nostr.filter import Filter

# The most memory for all queries of one connection. Two hundred results of the largest size take a fifth of it.
MAX_HELD_BYTES = 64 * 1024 * 1024
# The most events on one page, copies of the same event included: they take no memory, but time.
MAX_EVENTS = 100_000
# The memory of an event's record, id, key and signature.
_FIXED_BYTES = 1_024


class MemoryBudget:
    """How many bytes of memory are free for several answers together."""

    def __init__(self, free: int = MAX_HELD_BYTES) -> None:
        self.free = free


def weight(event: Event) -> int:
    """About how many bytes of memory an event takes: with many short tags, ten times its JSON."""
    # Without a Python call for each tag, since every event that is waited for is weighed.
    values = chain.from_iterable(event.tags)
    return (
        _FIXED_BYTES
        + sys.getsizeof(event.content)
        + sum(map(sys.getsizeof, event.tags))
        + sum(map(sys.getsizeof, values))
    )


class StoredAnswer:
    """The events of one relay for one query, over all of its pages.

    `known` are verified events by their ids, which queries to several relays share: none is verified twice.
    """

    def __init__(self, budget: MemoryBudget, known: dict[str, Event]) -> None:
        self._budget = budget
        self._known = known
        self._held = 0
        self._filters: tuple[Filter, ...] = ()
        self._most: int | None = None
        self._given = 0
        self.events: dict[str, Event] = {}
        self.page: dict[str, Event] = {}
        # Set when an event was left out since there was no room for it.
        self.cut = False

    def begin_page(self, filters: tuple[Filter, ...]) -> None:
        """Begin a page: the events that `take` gets next answer these filters."""
        bounds = [f.most for f in filters]
        known = [bound for bound in bounds if bound is not None]
        self._most = sum(known) if len(known) == len(bounds) else None
        self._filters, self.page, self._given = filters, {}, 0

    def take(self, event: Event) -> bool:
        """Keep an event; False when the page must end, since it holds all that the filters can match or room is out.

        Raises `SignatureError` for a forged event, `MalformedError` for one that does not match.
        """
        if not any(f.matches(event) for f in self._filters):
            raise MalformedError("an event does not match what was asked for")
        self._given += 1
        # After a reconnection the relay sends the page from its beginning: copies do not count as further events.
        beyond = self._most is not None and len(self.page) >= self._most and event.id not in self.page
        if beyond or self._given > MAX_EVENTS:
            return False
        true = self._known.get(event.id, event)
        if event.id not in self._known or true != event:
            verify(event)
        if event.id not in self.events:
            taken = weight(true)
            if taken > self._budget.free:
                self.cut = True
                return False
            self._budget.free -= taken
            self._held += taken
            self._known[event.id] = self.events[event.id] = true
        self.page[event.id] = true
        return True

    def let_go(self) -> None:
        """Give back the room that this answer took."""
        self._budget.free += self._held
        self._held = 0
