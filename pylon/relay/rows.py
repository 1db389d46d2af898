"""Reads and writes rows of the relay's tables: what `retention.plan` needs to know, and what it decides."""

# ruff: noqa: S608 - the text is made of this file's own words; every value is a parameter.

import sqlite3
from collections.abc import Sequence

import orjson

from pylon.nostr.event import Event, expiration
from pylon.records import record
from pylon.relay.access import is_private
from pylon.relay.retention import DELETION_KIND, STALE_S, Known, Plan, Space, address, deletions

PURGE = "DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE expires_at <= ? LIMIT ?)"
# Written exactly as in the index `event_of_jobs`, or SQLite would not use that index.
OF_JOBS = "(kind = 5 OR kind BETWEEN 5000 AND 7000)"
_STALE = (
    f"SELECT seq FROM event WHERE {OF_JOBS} AND created_at < ? AND (kind <> 5 OR EXISTS (SELECT 1 FROM tag"
    " WHERE tag.event = seq AND name = 'k' AND CAST(value AS INTEGER) BETWEEN 5000 AND 7000))"
    " ORDER BY created_at LIMIT ?"
)
# Expired events are deleted before any event is refused for lack of room: some more at a time than a batch can bring.
_PURGED_FIRST = 500
# Roughly what an event's rows and indexes take beyond its JSON, in bytes. The estimate is used only within a batch:
# the next one measures the file again.
_ROW_BYTES, _TAG_BYTES = 512, 256


@record
class Publication:
    """An event to store, and its JSON."""

    event: Event
    raw: bytes


def known_of(connection: sqlite3.Connection, events: Sequence[Event]) -> Known:
    """What the database holds about these events, without their sizes (see `measure`)."""
    known = Known()
    ids = [event.id for event in events]
    addresses = [where for event in events if (where := address(event)) is not None]
    for row in connection.execute("SELECT id FROM event WHERE id IN (SELECT value FROM json_each(?))", _listed(ids)):
        known.ids.add(row["id"])
    named = [target for event in events if event.kind == DELETION_KIND for target, _ in deletions(event)]
    for row in connection.execute(
        "SELECT target, pubkey, until FROM deletion WHERE target IN (SELECT value FROM json_each(?))",
        _listed([*ids, *addresses, *named]),
    ):
        known.deleted[row["target"], row["pubkey"]] = row["until"]
    if addresses:
        for row in connection.execute(
            "SELECT address, created_at, id FROM event WHERE address IN (SELECT value FROM json_each(?))",
            _listed(addresses),
        ):
            known.heads[row["address"]] = (row["created_at"], row["id"])
    return known


def space(connection: sqlite3.Connection, bound: int, now: int) -> Space:
    """How full the file is, of `bound` bytes. If nearly full, some expired events are deleted first (NIP-40)."""
    found = Space(bound, _used(connection), now)
    if found.used > found.lasting and connection.execute(PURGE, (now, _PURGED_FIRST)).rowcount:
        found.used = _used(connection)
    return found


def make_room(bound: int, now: int, limit: int, connection: sqlite3.Connection) -> int:
    """Deletes up to `limit` jobs and cancellations older than `STALE_S`, if room is scarce; returns how many."""
    if not Space(bound, _used(connection), now).is_scarce:
        return 0
    found = connection.execute(_STALE, (now - STALE_S, limit)).fetchall()
    stale = _listed([seq for (seq,) in found])
    # The jobs that these cancellations name are as old, and nobody publishes them again.
    connection.execute(
        "DELETE FROM deletion WHERE (target, pubkey) IN (SELECT tag.value, event.pubkey FROM tag JOIN event"
        " ON tag.event = seq WHERE seq IN (SELECT value FROM json_each(?)) AND event.kind = 5 AND tag.name = 'e')",
        stale,
    )
    connection.execute("DELETE FROM event WHERE seq IN (SELECT value FROM json_each(?))", stale)
    return len(found)


def _used(connection: sqlite3.Connection) -> int:
    """Bytes of the file in use. Free pages do not count: they are filled again before the file grows."""
    pages, free, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def measure(connection: sqlite3.Connection, batch: Sequence[Publication], known: Known) -> None:
    """Fills `known.sizes`."""
    for publication in batch:
        event = publication.event
        rows = len(_indexed(event)) + sum(1 for _ in deletions(event))
        known.sizes[event.id] = len(publication.raw) + _ROW_BYTES + _TAG_BYTES * rows
    for row in connection.execute(
        "SELECT id, length(raw) AS bytes, (SELECT count(*) FROM tag WHERE tag.event = seq) AS tags"
        " FROM event WHERE id IN (SELECT value FROM json_each(?))",
        _listed([id_ for _, id_ in known.heads.values()]),
    ):
        known.sizes[row["id"]] = row["bytes"] + _ROW_BYTES + _TAG_BYTES * row["tags"]


def write(connection: sqlite3.Connection, todo: Plan, numbers: dict[str, int], raw: dict[str, bytes]) -> None:
    """Writes a plan; `numbers` and `raw` are the sequence numbers and the JSON of the events to keep, by id."""
    # Replaced versions go first: two rows never hold one address.
    if todo.replaced:
        connection.executemany("DELETE FROM event WHERE id = ?", [(id_,) for id_ in todo.replaced])
    if todo.keep:
        connection.executemany(
            "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    numbers[id_],
                    id_,
                    event.pubkey,
                    event.kind,
                    event.created_at,
                    expiration(event),
                    is_private(event),
                    address(event),
                    raw[id_],
                )
                for id_, event in todo.keep.items()
            ],
        )
        tags = [
            (name, value, event.kind, event.created_at, numbers[id_])
            for id_, event in todo.keep.items()
            for name, value in _indexed(event)
        ]
        if tags:
            connection.executemany("INSERT INTO tag VALUES (?, ?, ?, ?, ?)", tags)
    if todo.deleted:
        connection.executemany(
            "INSERT INTO deletion VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET until = excluded.until",
            [(target, pubkey, until) for (target, pubkey), until in todo.deleted.items()],
        )
        # Except kind 5: deleting a deletion request has no effect (NIP-09).
        connection.executemany(
            "DELETE FROM event WHERE (id = :target OR address = :target) AND pubkey = :pubkey"
            " AND created_at <= :until AND kind <> 5",
            [
                {"target": target, "pubkey": pubkey, "until": until}
                for (target, pubkey), until in todo.deleted.items()
            ],
        )


def _listed(values: list[str] | list[int]) -> tuple[str]:
    """The parameter of `IN (SELECT value FROM json_each(?))`: one, however many values there are."""
    return (orjson.dumps(values).decode(),)


def _indexed(event: Event) -> set[tuple[str, str]]:
    """Name and first value of the event's tags of one letter, the only ones that filters can name (NIP-01)."""
    return {
        (tag[0], tag[1])
        for tag in event.tags
        if len(tag) > 1 and len(tag[0]) == 1 and tag[0].isascii() and tag[0].isalpha()
    }
