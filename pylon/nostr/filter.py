"""NIP-01 filters: what a subscription asks for, and whether an event matches it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pylon.errors import MalformedError
from pylon.nostr.event import MAX_KIND, MAX_TIMESTAMP, Event, is_hex64, is_replaceable

MAX_VALUES = 1_000
MAX_TAG_VALUE = 1_024
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter. None means "any"; an empty set matches nothing. Times are Unix seconds, both ends included.

    `tags` maps a single letter to the values of which an event must carry at least one.
    """

    ids: frozenset[str] | None = None
    authors: frozenset[str] | None = None
    kinds: frozenset[int] | None = None
    tags: Mapping[str, frozenset[str]] = field(default_factory=dict)
    since: int | None = None
    until: int | None = None
    limit: int | None = None

    def matches(self, event: Event) -> bool:
        """Whether the event passes every condition. `limit` is not a condition (NIP-01)."""
        if self.since is not None and event.created_at < self.since:
            return False
        if self.until is not None and event.created_at > self.until:
            return False
        return self.matches_at_any_time(event)

    def matches_at_any_time(self, event: Event) -> bool:
        """Whether the event passes every condition but those of time."""
        if self.ids is not None and event.id not in self.ids:
            return False
        if self.kinds is not None and event.kind not in self.kinds:
            return False
        if self.authors is not None and event.pubkey not in self.authors:
            return False
        for letter, wanted in self.tags.items():
            for tag in event.tags:
                if tag[0] == letter and len(tag) > 1 and tag[1] in wanted:
                    break
            else:
                return False
        return True

    @property
    def most(self) -> int | None:
        """The most events that a right answer holds; None when nothing bounds it.

        Bounds are `limit`, the number of ids, and one event for each author and replaceable kind (NIP-01).
        """
        bounds = [] if self.limit is None else [self.limit]
        if self.ids is not None:
            bounds.append(len(self.ids))
        if self.authors is not None and self.kinds is not None and all(map(is_replaceable, self.kinds)):
            bounds.append(len(self.authors) * len(self.kinds))
        return min(bounds, default=None)

    def to_dict(self) -> dict[str, Any]:
        """The filter as NIP-01 writes it; lists are sorted so that equal filters are equal bytes."""
        raw: dict[str, Any] = {}
        if self.ids is not None:
            raw["ids"] = sorted(self.ids)
        if self.authors is not None:
            raw["authors"] = sorted(self.authors)
        if self.kinds is not None:
            raw["kinds"] = sorted(self.kinds)
        for letter in sorted(self.tags):
            raw[f"#{letter}"] = sorted(self.tags[letter])
        for name in ("since", "until", "limit"):
            value = getattr(self, name)
            if value is not None:
                raw[name] = value
        return raw


def parse_filter(raw: object) -> Filter:
    """A filter from a decoded JSON value.

    Raises `MalformedError` on a wrong type, a value out of range, more than 1,000 values in a list, or a field
    that NIP-01 does not define: a condition that is silently ignored would match far too much.
    """
    if not isinstance(raw, dict):
        raise MalformedError("a filter must be a JSON object")
    tags: dict[str, frozenset[str]] = {}
    known: dict[str, Any] = {}
    for name, value in raw.items():
        if name in ("ids", "authors"):
            known[name] = frozenset(_strings(name, value))
            if not all(map(is_hex64, known[name])):
                raise MalformedError(f"filter {name} must be 64 lower-case hex characters each")
        elif name == "kinds":
            known[name] = frozenset(_kinds(value))
        elif name in ("since", "until", "limit"):
            if type(value) is not int or not 0 <= value <= MAX_TIMESTAMP:
                raise MalformedError(f"filter {name} must be a whole number, zero or more")
            known[name] = value
        elif isinstance(name, str) and len(name) == 2 and name[0] == "#" and name[1] in _LETTERS:
            tags[name[1]] = frozenset(_strings(name, value))
            # NIP-01 demands this of `#e` and `#p`. Another value could match no well-formed event.
            if name in ("#e", "#p") and not all(map(is_hex64, tags[name[1]])):
                raise MalformedError(f"filter {name} must be 64 lower-case hex characters each")
        else:
            raise MalformedError(f"filter field {str(name)[:40]!r} is not defined by NIP-01")
    return Filter(tags=tags, **known)


def _strings(name: str, value: object) -> list[str]:
    if not isinstance(value, list) or len(value) > MAX_VALUES:
        raise MalformedError(f"filter {name} must be a list of at most {MAX_VALUES} strings")
    for item in value:
        if not isinstance(item, str) or len(item) > MAX_TAG_VALUE:
            raise MalformedError(f"filter {name} must hold strings of at most {MAX_TAG_VALUE} characters")
    return value


def _kinds(value: object) -> list[int]:
    if not isinstance(value, list) or len(value) > MAX_VALUES:
        raise MalformedError(f"filter kinds must be a list of at most {MAX_VALUES} integers")
    for item in value:
        if type(item) is not int or not 0 <= item <= MAX_KIND:
            raise MalformedError("filter kinds must be integers from 0 to 65535")
    return value
