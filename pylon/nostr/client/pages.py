"""Pagination: the filters that together bring all events of one filter, from a relay that limits each answer.

After a full page older events are asked for, beginning with the second of its oldest event, of which some may have
been left out. A filter cannot ask for the rest of a second. Where one second alone fills a page, it is asked for in
halves: of the authors, kinds, ids or tag values, whichever are the most.

Source: NIP-01 (`until`, `limit`, the newest first), NIP-11 (`max_limit`, `default_limit`).
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from pylon.nostr.event import Event
from pylon.nostr.filter import Filter


class Pages:
    """The pages to ask one relay for: `next` gives the filter of a page, `came` takes the events that it brought."""

    def __init__(self, wanted: Filter) -> None:
        self._limit = wanted.limit
        # A stack of filters: the next one to ask for is the last.
        self._todo = [wanted]
        self._asked = wanted
        self._times: dict[str, int] = {}
        # Seconds (Unix) that may hold more events than any filter can ask for.
        self.crowded: list[int] = []

    def next(self) -> Filter | None:
        """The filter of the next page; None when there are no more. Its `limit` is what is left of the whole's."""
        while self._todo:
            asked = self._todo.pop()
            if self._limit is None:
                self._asked = asked
                return asked
            newer = 0 if asked.until is None else sum(at > asked.until for at in self._times.values())
            if newer < self._limit:
                self._asked = replace(asked, limit=self._limit - newer)
                return self._asked
        return None

    def came(self, page: Collection[Event], *, full: bool) -> None:
        """The events of the page asked for. `full`: the relay may have left some out; an empty page is not full."""
        if self._limit is not None:
            self._times.update((event.id, event.created_at) for event in page)
        if not full:
            return
        oldest, asked = min(event.created_at for event in page), self._asked
        if oldest != asked.until:
            self._todo.append(replace(asked, until=oldest))
            return
        if oldest > (asked.since or 0):
            self._todo.append(replace(asked, until=oldest - 1))
        parts = halves(replace(asked, since=oldest))
        if not parts:
            self.crowded.append(oldest)
        self._todo += parts


def halves(wanted: Filter) -> tuple[Filter, ...]:
    """Two filters that together match what this one does; none where no list in it has two values.

    An event with several of the tag values may match both.
    """
    lists: dict[str, frozenset[Any] | None] = {
        "ids": wanted.ids, "authors": wanted.authors, "kinds": wanted.kinds, **wanted.tags,
    }  # fmt: skip
    name, values = max(lists.items(), key=lambda one: len(one[1] or ()))
    if values is None or len(values) < 2:
        return ()
    ordered = sorted(values)
    parts = frozenset(ordered[: len(ordered) // 2]), frozenset(ordered[len(ordered) // 2 :])
    if name in wanted.tags:
        return tuple(replace(wanted, tags={**wanted.tags, name: part}) for part in parts)
    changes: list[dict[str, Any]] = [{name: part} for part in parts]
    return tuple(replace(wanted, **change) for change in changes)
