"""An index of open subscriptions that finds those an event matches at a cost independent of the number of others.

Each filter is listed under the values of its most selective condition. An event is looked up under each of its own
values, and only the filters found there are compared with it in full.
"""

from collections.abc import Hashable, Iterable, Iterator
from itertools import chain

from pylon.nostr.event import Event
from pylon.nostr.filter import Filter

# The letter of a tag, or one of the names below, and a value. The names are longer than one letter, so they are never
# taken for a tag.
type Key = tuple[str, str | int]
type Entry[C: Hashable] = tuple[C, str]
# The subscriptions that name a value: one entry alone, since most values have one, and a dict would take more memory
# than all else that is stored for it. Dicts serve as ordered sets: events are delivered in the order of opening.
type Askers[C: Hashable] = Entry[C] | dict[Entry[C], None]
type Filed[C: Hashable] = dict[str | int, Askers[C]]

_ID, _AUTHOR, _KIND, _ANY = "id", "author", "kind", "any"


class SubscriptionIndex[C: Hashable]:
    """Open subscriptions of connections `C`, identified by connection and subscription id."""

    def __init__(self) -> None:
        self._filters: dict[Entry[C], tuple[Filter, ...]] = {}
        self._filed: dict[str, Filed[C]] = {}

    def __len__(self) -> int:
        return len(self._filters)

    def add(self, connection: C, subscription: str, filters: Iterable[Filter]) -> None:
        """Adds a subscription, in place of one of the same connection and id (NIP-01)."""
        self.remove(connection, subscription)
        entry = (connection, subscription)
        self._filters[entry] = tuple(filters)
        for name, value in _keys_of_filters(self._filters[entry]):
            filed = self._filed.setdefault(name, {})
            askers = filed.setdefault(value, entry)
            if isinstance(askers, dict):
                askers[entry] = None
            elif askers is not entry:
                filed[value] = {askers: None, entry: None}

    def remove(self, connection: C, subscription: str) -> None:
        """Removes a subscription, if there is one."""
        entry = (connection, subscription)
        for name, value in _keys_of_filters(self._filters.pop(entry, ())):
            filed = self._filed[name]
            askers = filed[value]
            if isinstance(askers, dict) and len(askers) > 1:
                del askers[entry]
                continue
            del filed[value]
            if not filed:
                del self._filed[name]

    def match(self, event: Event) -> list[Entry[C]]:
        """The subscriptions with at least one filter that matches the event, each once."""
        filters = self._filters
        return [entry for entry in self._candidates(event) if _matches(event, filters[entry])]

    def _candidates(self, event: Event) -> Iterable[Entry[C]]:
        filed = self._filed
        found: list[Iterable[Entry[C]]] = []
        for name, value in ((_ID, event.id), (_AUTHOR, event.pubkey), (_KIND, event.kind), (_ANY, 0)):
            by_value = filed.get(name)
            if by_value is not None and value in by_value:
                found.append(_each(by_value[value]))
        # No filter names most tags: no key is built for those.
        for tag in event.tags:
            by_value = filed.get(tag[0])
            if by_value is not None and len(tag) > 1 and len(tag[0]) == 1 and tag[1] in by_value:
                found.append(_each(by_value[tag[1]]))
        return found[0] if len(found) == 1 else dict.fromkeys(chain.from_iterable(found))


def _each[C: Hashable](askers: Askers[C]) -> Iterable[Entry[C]]:
    return askers if isinstance(askers, dict) else (askers,)


def _matches(event: Event, filters: tuple[Filter, ...]) -> bool:
    for wanted in filters:  # noqa: SIM110 - a generator costs more than most comparisons
        if wanted.matches(event):
            return True
    return False


def _keys_of_filters(filters: Iterable[Filter]) -> set[Key]:
    return set(chain.from_iterable(map(_keys_of_filter, filters)))


def _keys_of_filter(wanted: Filter) -> Iterator[Key]:
    if wanted.ids is not None:
        return ((_ID, id_) for id_ in wanted.ids)
    if wanted.tags:
        # The shortest list of values: the filter is listed least often, and compared with the fewest events in vain.
        letter = min(wanted.tags, key=lambda name: (len(wanted.tags[name]), name))
        return ((letter, value) for value in wanted.tags[letter])
    if wanted.authors is not None:
        return ((_AUTHOR, author) for author in wanted.authors)
    if wanted.kinds is not None:
        return ((_KIND, kind) for kind in wanted.kinds)
    return iter(((_ANY, 0),))
