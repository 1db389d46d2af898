"""NIP-01 filters as SQL over the relay's tables.

The SQL depends only on which conditions a filter has, not on their values, so that filters with the same conditions
share a prepared statement in SQLite's cache; a list of values is passed as one JSON parameter.
"""

# ruff: noqa: S608 - the text is made of this file's own words and of one-letter tag names; every value is a parameter.

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import orjson

from pylon.nostr.filter import Filter

# The most kinds of a filter that are queried separately (`apart`), since each query may return as many events as the
# whole filter.
_KINDS_APART = 16

type Value = str | int


class Client:
    """Stands for one connection: lookups of the same one are held against it if they take long."""


@dataclass(frozen=True, slots=True)
class Reader:
    """The keys that the client has authenticated as, and the time of its request (`now`, Unix seconds)."""

    keys: frozenset[str]
    now: int
    client: Client = field(default_factory=Client)


@dataclass(frozen=True, slots=True)
class Withheld:
    """The private events that a client did not get before it authenticated one more key.

    They are those that none of its former `keys` opens, up to the sequence number `last_seq`: later ones are
    delivered live.
    """

    keys: frozenset[str]
    last_seq: int


@dataclass(frozen=True, slots=True)
class Query:
    """SQL (a condition over the table `event`, or a whole statement) and the values of its parameters."""

    sql: str
    values: tuple[Value, ...]


def where(wanted: Filter, reader: Reader, withheld: Withheld | None = None) -> Query:
    """The condition on the table `event` for events that match the filter and that the reader may see; of these only
    the ones that were `withheld` until now, if that is given."""
    parts: list[str] = []
    values: list[Value] = []

    def add(condition: str, *more: Value) -> None:
        parts.append(condition)
        values.extend(more)

    for letter in sorted(wanted.tags):
        query = _tagged(letter, wanted)
        # A set of sequence numbers, so that an event with two matching tags counts once.
        add(f"seq IN ({query.sql})", *query.values)
    if wanted.ids is not None:
        add(*_among("id", wanted.ids))
    # Unary plus keeps SQLite from using an index on the column. With a tag or an id, few rows are left to look at,
    # and SQLite should not choose another index.
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
    _allowed(add, reader, withheld)
    return Query(" AND ".join(parts), tuple(values))


def _allowed(add: Callable[..., None], reader: Reader, withheld: Withheld | None) -> None:
    opened, values = _opened_by(reader.keys)
    if withheld is not None:
        before, former_values = _opened_by(withheld.keys)
        add(f"private = 1 AND {opened} AND NOT {before} AND +seq <= ?", *values, *former_values, withheld.last_seq)
    elif reader.keys:
        add(f"(private = 0 OR {opened})", *values)
    else:
        add("private = 0")


def _opened_by(keys: frozenset[str]) -> tuple[str, tuple[Value, ...]]:
    """The condition that one of these keys opens a private event, and its parameters."""
    if not keys:
        return "FALSE", ()
    condition, value = _among("reader.value", keys)
    return (
        "(event.pubkey IN (SELECT value FROM json_each(?)) OR EXISTS (SELECT 1 FROM tag AS reader"
        f" WHERE reader.event = event.seq AND reader.name = 'p' AND {condition}))"
    ), (_listed(keys), value)


def newest(wanted: Filter, limit: int, reader: Reader, withheld: Withheld | None = None) -> Query:
    """The statement that finds the newest `limit` events, or fewer if the filter asks for fewer.

    Its rows are (sequence number, `created_at`, id, bytes of JSON).
    """
    condition = where(wanted, reader, withheld)
    few = limit if wanted.limit is None else min(limit, wanted.limit)
    # As in `where`: it is slowest to go through all events by time for the few that have a tag or an id.
    order = "+created_at DESC, id" if wanted.tags or wanted.ids is not None else "created_at DESC, id"
    return Query(
        f"SELECT seq, created_at, id, length(raw) FROM event WHERE {condition.sql} ORDER BY {order} LIMIT ?",
        (*condition.values, few),
    )


def apart(wanted: Filter) -> list[Filter]:
    """Filters that together match what this one does, each of which an index answers in order of time.

    A filter of several kinds and nothing else is divided by kind: in one query all events of these kinds would be
    read and sorted to find the few newest.
    """
    bare = wanted.ids is None and wanted.authors is None and not wanted.tags
    if not bare or wanted.kinds is None or not 1 < len(wanted.kinds) <= _KINDS_APART:
        return [wanted]
    return [replace(wanted, kinds=frozenset({kind})) for kind in sorted(wanted.kinds)]


def counted(filters: Sequence[Filter], reader: Reader) -> Query:
    """The statement that counts the events that match at least one filter; `limit` is ignored (NIP-45)."""
    queries = [where(wanted, reader) for wanted in filters]
    text = " UNION ".join(f"SELECT seq FROM event WHERE {query.sql}" for query in queries)
    return Query(f"SELECT count(*) FROM ({text})", tuple(value for query in queries for value in query.values))


def _tagged(letter: str, wanted: Filter) -> Query:
    """Selects the sequence numbers of events with one of the values that the filter wants of this tag."""
    conditions: list[tuple[str, Value]] = [("name = ?", letter), _among("value", wanted.tags[letter])]
    if wanted.kinds is not None:
        conditions.append(_among("kind", wanted.kinds))
    if wanted.since is not None:
        conditions.append(("created_at >= ?", wanted.since))
    if wanted.until is not None:
        conditions.append(("created_at <= ?", wanted.until))
    text = " AND ".join(condition for condition, _ in conditions)
    return Query(f"SELECT event FROM tag WHERE {text}", tuple(value for _, value in conditions))


def _among[V: (str, int)](column: str, values: Collection[V]) -> tuple[str, Value]:
    """A condition that the column has one of these values, and the condition's one parameter."""
    # Most lists have one value, and with `=` an index also gives the order.
    if len(values) == 1:
        return f"{column} = ?", next(iter(values))
    return f"{column} IN (SELECT value FROM json_each(?))", _listed(values)


def _listed[V: (str, int)](values: Collection[V]) -> str:
    return orjson.dumps(sorted(values)).decode()
