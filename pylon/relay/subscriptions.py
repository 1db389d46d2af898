"""Which open subscriptions an event answers: an index, so that the cost does not grow with those it does not.

Every filter is filed under the values of its most telling condition; an event is looked up under its own
values, and what is found there is compared in full.
"""

from collections.abc import Hashable, Iterable, Iterator
from itertools import chain

from pylon.nostr.event import Event
from pylon.nostr.filter import Filter

type Key = tuple[str, str | int]
type Entry[C: Hashable] = tuple[C, str]

_ANY: Key = ("any", 0)


class SubscriptionIndex[C: Hashable]:
    """Open subscriptions of connections `C`, each with an id of its own per connection."""

    def __init__(self) -> None:
        self._filters: dict[Entry[C], tuple[Filter, ...]] = {}
        # Dicts for sets: deliveries keep the order in which subscriptions were opened.
        self._filed: dict[Key, dict[Entry[C], None]] = {}

    def __len__(self) -> int:
        return len(self._filters)

    def add(self, connection: C, subscription: str, filters: Iterable[Filter]) -> None:
        """Opens a subscription; one of the same connection and id is replaced (NIP-01)."""
        self.remove(connection, subscription)
        entry = (connection, subscription)
        self._filters[entry] = tuple(filters)
        for key in _keys_of_filters(self._filters[entry]):
            self._filed.setdefault(key, {})[entry] = None

    def remove(self, connection: C, subscription: str) -> None:
        """Closes a subscription; nothing happens when there is none."""
        entry = (connection, subscription)
        for key in _keys_of_filters(self._filters.pop(entry, ())):
            filed = self._filed.get(key)
            if filed is not None:
                filed.pop(entry, None)
                if not filed:
                    del self._filed[key]

    def match(self, event: Event) -> list[Entry[C]]:
        """The subscriptions of which at least one filter matches, each once."""
        candidates: dict[Entry[C], None] = {}
        for key in _keys_of_event(event):
            filed = self._filed.get(key)
            if filed is not None:
                candidates.update(filed)
        return [entry for entry in candidates if any(wanted.matches(event) for wanted in self._filters[entry])]


def _keys_of_filters(filters: Iterable[Filter]) -> set[Key]:
    return set(chain.from_iterable(map(_keys_of_filter, filters)))


def _keys_of_filter(wanted: Filter) -> Iterator[Key]:
    if wanted.ids is not None:
        return (("id", id_) for id_ in wanted.ids)
    if wanted.tags:
        # The shortest list: the fewest places to file it under, and the fewest events found there in vain.
        letter = min(wanted.tags, key=lambda name: (len(wanted.tags[name]), name))
        return ((f"#{letter}", value) for value in wanted.tags[letter])
    if wanted.authors is not None:
        return (("author", author) for author in wanted.authors)
    if wanted.kinds is not None:
        return (("kind", kind) for kind in wanted.kinds)
    return iter((_ANY,))


def _keys_of_event(event: Event) -> set[Key]:
    keys: set[Key] = {(f"#{tag[0]}", tag[1]) for tag in event.tags if len(tag) > 1 and len(tag[0]) == 1}
    keys.update((("id", event.id), ("author", event.pubkey), ("kind", event.kind), _ANY))
    return keys
