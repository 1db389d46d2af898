"""NIP-01 filters as SQL over the relay's tables.

The text depends only on which conditions a filter has, never on their values, so that SQLite's statement cache
serves all filters of one shape; long lists travel as one JSON parameter.
"""

# ruff: noqa: S608 - the text is made of this file's own words and of one-letter tag names; every value is a parameter.

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import orjson

from pylon.nostr.filter import Filter

# Each may give as many events as the filter.
_KINDS_APART = 16


class Privacy(Enum):
    """Which events a reader gets."""

    ALLOWED = "all that the reader may see"
    OWN = "only private ones that the reader may see"


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks, at what time (Unix seconds)."""

    keys: frozenset[str]
    now: int


@dataclass(frozen=True, slots=True)
class Query:
    """A WHERE clause over `event` and its values."""

    where: str
    values: tuple[Any, ...]


def where(wanted: Filter, reader: Reader, privacy: Privacy = Privacy.ALLOWED) -> Query:
    """The condition that an event of the table `event` meets when it matches the filter and may be read."""
    parts: list[str] = []
    values: list[Any] = []

    def add(condition: str, *more: Any) -> None:
        parts.append(condition)
        values.extend(more)

    for letter in sorted(wanted.tags):
        query = _tagged(letter, wanted)
        # A set of sequence numbers, so that an event with two matching tags counts once.
        add(f"seq IN ({query.where})", *query.values)
    if wanted.ids is not None:
        add(*_among("id", wanted.ids))
    # With a tag or an id the other indexes only lead away from the few rows that the first one finds.
    plus = "+" if wanted.tags or wanted.ids is not None else ""
    if wanted.authors is not None:
        add(*_among(f"{plus}pubkey", wanted.authors))
    if wanted.kinds is not None:
        add(*_among(f"{plus}kind", wanted.kinds))
    if wanted.since is not None:
        add(f"{plus}created_at >= ?", wanted.since)
    if wanted.until is not None:
        add(f"{plus}created_at <= ?", wanted.until)
    add("(expires_at IS NULL OR expires_at > ?)", reader.now)
    _allowed(add, reader, privacy)
    return Query(" AND ".join(parts), tuple(values))


def _allowed(add: Callable[..., None], reader: Reader, privacy: Privacy) -> None:
    if not reader.keys:
        # Nothing private is theirs.
        add("private = 0" if privacy is Privacy.ALLOWED else "FALSE")
        return
    mine = _among("reader.value", reader.keys)
    own = (
        "(event.pubkey IN (SELECT value FROM json_each(?)) OR EXISTS (SELECT 1 FROM tag AS reader"
        f" WHERE reader.event = event.seq AND reader.name = 'p' AND {mine[0]}))"
    )
    own_values = (_listed(reader.keys), *mine[1:])
    if privacy is Privacy.ALLOWED:
        add(f"(private = 0 OR {own})", *own_values)
    else:
        add(f"private = 1 AND {own}", *own_values)


def newest(wanted: Filter, limit: int, reader: Reader, privacy: Privacy = Privacy.ALLOWED) -> Query:
    """The whole statement: the newest `limit` events, or fewer where the filter asks for fewer."""
    condition = where(wanted, reader, privacy)
    few = limit if wanted.limit is None else min(limit, wanted.limit)
    # Same reason as above: walking all events by time to find a few by tag is the slowest way.
    order = "+created_at DESC, id" if wanted.tags or wanted.ids is not None else "created_at DESC, id"
    return Query(
        f"SELECT seq, created_at, id, length(raw) FROM event WHERE {condition.where} ORDER BY {order} LIMIT ?",
        (*condition.values, few),
    )


def apart(wanted: Filter) -> list[Filter]:
    """Filters that match together what this one does, each with an index that gives its order.

    Several kinds are answered one by one: together they would all be read, and sorted, for a few.
    """
    bare = wanted.ids is None and wanted.authors is None and not wanted.tags
    if not bare or wanted.kinds is None or not 1 < len(wanted.kinds) <= _KINDS_APART:
        return [wanted]
    return [replace(wanted, kinds=frozenset({kind})) for kind in sorted(wanted.kinds)]


def counted(filters: Sequence[Filter], reader: Reader) -> Query:
    """The whole statement: how many events match at least one of the filters; `limit` does not count (NIP-45)."""
    queries = [where(wanted, reader) for wanted in filters]
    text = " UNION ".join(f"SELECT seq FROM event WHERE {query.where}" for query in queries)
    return Query(f"SELECT count(*) FROM ({text})", tuple(value for query in queries for value in query.values))


def _tagged(letter: str, wanted: Filter) -> Query:
    conditions = [_among("value", wanted.tags[letter])]
    if wanted.kinds is not None:
        conditions.append(_among("kind", wanted.kinds))
    if wanted.since is not None:
        conditions.append(("created_at >= ?", wanted.since))
    if wanted.until is not None:
        conditions.append(("created_at <= ?", wanted.until))
    text = " AND ".join(condition[0] for condition in conditions)
    values = tuple(value for condition in conditions for value in condition[1:])
    return Query(f"SELECT event FROM tag WHERE name = ? AND {text}", (letter, *values))


def _among(column: str, values: Collection[str] | Collection[int]) -> tuple[Any, ...]:
    # One value is by far the most frequent, and with `=` an index also gives the order.
    if len(values) == 1:
        return f"{column} = ?", next(iter(values))
    return f"{column} IN (SELECT value FROM json_each(?))", _listed(values)


def _listed(values: Iterable[Any]) -> str:
    return orjson.dumps(sorted(values)).decode()
