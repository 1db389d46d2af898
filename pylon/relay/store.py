"""The relay's events in SQLite.

An event is kept as the JSON that is sent to subscribers, so that serving it encodes nothing. Every event gets a
sequence number when it is stored; later ones are larger.
"""

import math
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import orjson

from pylon.clock import Clock, SystemClock
from pylon.nostr.event import Event, expiration
from pylon.nostr.filter import Filter
from pylon.records import record
from pylon.relay.access import is_private
from pylon.relay.queries import Privacy, Query, Reader, any_withheld, counted, newest
from pylon.relay.retention import DELETION_KIND, Known, Outcome, Plan, Room, address, deletions, plan
from pylon.store.database import Database, Schema

SCHEMA = Schema(
    "relay",
    (
        """
        CREATE TABLE event (
            seq INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            pubkey TEXT NOT NULL,
            kind INTEGER NOT NULL,
            created_at INTEGER NOT NULL,
            expires_at INTEGER,
            private INTEGER NOT NULL,
            address TEXT,
            raw BLOB NOT NULL
        ) STRICT;
        CREATE UNIQUE INDEX event_by_address ON event (address) WHERE address IS NOT NULL;
        CREATE INDEX event_by_time ON event (created_at);
        CREATE INDEX event_by_kind ON event (kind, created_at);
        CREATE INDEX event_by_author ON event (pubkey, kind, created_at);
        CREATE INDEX event_by_end ON event (expires_at) WHERE expires_at IS NOT NULL;
        CREATE TABLE tag (
            name TEXT NOT NULL,
            value TEXT NOT NULL,
            kind INTEGER NOT NULL,
            created_at INTEGER NOT NULL,
            event INTEGER NOT NULL REFERENCES event ON DELETE CASCADE,
            PRIMARY KEY (name, value, kind, created_at, event)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX tag_by_event ON tag (event);
        CREATE TABLE deletion (
            target TEXT NOT NULL,
            pubkey TEXT NOT NULL,
            until INTEGER NOT NULL,
            PRIMARY KEY (target, pubkey)
        ) STRICT, WITHOUT ROWID;
        """,
    ),
)

_PURGE = "DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE expires_at <= ? LIMIT ?)"
# What was expired makes room before anything is refused: as much at a time as a batch brings, and some more.
_PURGED_FIRST = 500
# About what rows and indexes take beyond the JSON, in bytes. It counts within a batch only: the next one measures.
_ROW_BYTES, _TAG_BYTES = 512, 256
# Of SQLite's own steps, some milliseconds: what an index answers is through before, and is never asked for the time.
_LOOK_STEPS = 100_000


@record
class Publication:
    """An event to store, and its JSON."""

    event: Event
    raw: bytes


@record
class Placed:
    """What became of a publication; `seq` is its number when it was stored."""

    outcome: Outcome
    seq: int = 0


class EventStore:
    """Stored events. One writer: `insert` and `purge` take turns at the database."""

    def __init__(
        self, database: Database, last_seq: int, max_bytes: int | None, lookup_s: float, clock: Clock
    ) -> None:
        self._database = database
        self._lookup_s = lookup_s
        self._last_seq = last_seq
        self._max_bytes = max_bytes
        self._clock = clock

    @classmethod
    async def open(
        cls, path: Path, *, max_bytes: int | None = None, lookup_s: float = math.inf, clock: Clock | None = None
    ) -> "EventStore":
        """Opens or creates the file, which takes no more than `max_bytes` (None: any number). Raises `SetupError`.

        What takes more than `lookup_s` seconds to look up is not: `sqlite3.OperationalError`, see `took_too_long`.
        """
        # NORMAL: an OK outlives a crash of this process. That it outlives a power cut is worth too little here:
        # whoever must not lose an event keeps it until another party has acted on it.
        database = await Database.open(path, [SCHEMA], label="relay", durability="NORMAL")
        row = await database.fetch_one("SELECT max(seq) FROM event")
        return cls(database, (row[0] or 0) if row else 0, max_bytes, lookup_s, clock or SystemClock())

    async def close(self) -> None:
        """Closes the file."""
        await self._database.close()

    async def insert(self, batch: Sequence[Publication]) -> list[Placed]:
        """Stores a batch in one transaction; what became of each, in order. When it returns, it is committed."""
        events = [publication.event for publication in batch]
        raw = {publication.event.id: publication.raw for publication in batch}
        last_seq = self._last_seq

        async with self._database.transaction_here() as tx:
            known = _known(tx.connection, events)
            room = None
            if self._max_bytes is not None:
                room = _room(tx.connection, self._max_bytes, int(self._clock.wall()))
                _measure(tx.connection, batch, known)
            todo = plan(events, known, room)
            numbers = {id_: last_seq + n for n, id_ in enumerate(todo.keep, 1)}
            _write(tx.connection, todo, numbers, raw)
        self._last_seq += len(numbers)
        return [
            Placed(outcome, numbers.get(event.id, 0)) for event, outcome in zip(events, todo.outcomes, strict=True)
        ]

    async def find(
        self, filters: Sequence[Filter], limit: int, reader: Reader, privacy: Privacy = Privacy.ALLOWED
    ) -> dict[int, int]:
        """Numbers of the events that match, and their bytes; newest first, of equal time the lowest id (NIP-01).

        `limit` holds for each filter.
        """
        queries = [newest(wanted, limit, reader, privacy) for wanted in filters if wanted.limit != 0]
        found: dict[int, tuple[int, str, int]] = {}
        for seq, created_at, id_, size in await self._look_up(queries):
            found[seq] = (-created_at, id_, size)
        return {seq: found[seq][2] for seq in sorted(found, key=found.__getitem__)}

    async def load(self, numbers: Sequence[int]) -> list[bytes]:
        """The JSON of these events, in this order; those that are gone by now are left out."""
        rows = await self._database.fetch_all(
            "SELECT seq, raw FROM event WHERE seq IN (SELECT value FROM json_each(?))",
            (orjson.dumps(numbers).decode(),),
        )
        raw = {row["seq"]: row["raw"] for row in rows}
        return [raw[seq] for seq in numbers if seq in raw]

    async def count(self, filters: Sequence[Filter], reader: Reader) -> int:
        """How many events match at least one of the filters (NIP-45)."""
        [[number]] = await self._look_up([counted(filters, reader)])
        return int(number)

    async def withheld(self, filters: Sequence[Filter], reader: Reader) -> bool:
        """Whether a private event matches that this reader may not see, or that takes too long to say."""
        try:
            [[found]] = await self._look_up([any_withheld(filters, reader)])
        except sqlite3.Error as error:
            if not took_too_long(error):
                raise
            return True
        return bool(found)

    async def _look_up(self, queries: Sequence[Query]) -> list[sqlite3.Row]:
        # Strangers ask, all wait for the one connection that reads, and a filter may need a walk through everything.
        def bounded(connection: sqlite3.Connection) -> list[sqlite3.Row]:
            ends = self._clock.monotonic() + self._lookup_s
            connection.set_progress_handler(lambda: self._clock.monotonic() > ends, _LOOK_STEPS)
            try:
                return [row for query in queries for row in connection.execute(query.where, query.values)]
            finally:
                connection.set_progress_handler(None, 0)

        return await self._database.read(bounded)

    async def purge(self, now: int, limit: int = 1_000) -> int:
        """Deletes up to `limit` events whose expiration has passed (NIP-40); how many there were."""
        return await self._database.write(lambda connection: connection.execute(_PURGE, (now, limit)).rowcount)


def took_too_long(error: sqlite3.Error) -> bool:
    """Whether it says that a lookup was broken off."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT


def _known(connection: sqlite3.Connection, events: Sequence[Event]) -> Known:
    known = Known()
    ids = [event.id for event in events]
    addresses = [where for event in events if (where := address(event)) is not None]
    for row in connection.execute(
        "SELECT id FROM event WHERE id IN (SELECT value FROM json_each(?))", (orjson.dumps(ids).decode(),)
    ):
        known.ids.add(row["id"])
    named = [target for event in events if event.kind == DELETION_KIND for target, _ in deletions(event)]
    for row in connection.execute(
        "SELECT target, pubkey, until FROM deletion WHERE target IN (SELECT value FROM json_each(?))",
        (orjson.dumps([*ids, *addresses, *named]).decode(),),
    ):
        known.deleted[row["target"], row["pubkey"]] = row["until"]
    if addresses:
        for row in connection.execute(
            "SELECT address, created_at, id FROM event WHERE address IN (SELECT value FROM json_each(?))",
            (orjson.dumps(addresses).decode(),),
        ):
            known.heads[row["address"]] = (row["created_at"], row["id"])
    return known


def _room(connection: sqlite3.Connection, bound: int, now: int) -> Room:
    room = Room(bound, _used(connection), now)
    if room.used > room.lasting and connection.execute(_PURGE, (now, _PURGED_FIRST)).rowcount:
        room.used = _used(connection)
    return room


def _used(connection: sqlite3.Connection) -> int:
    """Bytes of the file that hold something. Free pages are filled again before it grows."""
    pages, free, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _measure(connection: sqlite3.Connection, batch: Sequence[Publication], known: Known) -> None:
    for publication in batch:
        event = publication.event
        rows = len(_indexed(event)) + sum(1 for _ in deletions(event))
        known.sizes[event.id] = len(publication.raw) + _ROW_BYTES + _TAG_BYTES * rows
    heads = orjson.dumps([id_ for _, id_ in known.heads.values()]).decode()
    for row in connection.execute(
        "SELECT id, length(raw) AS bytes, (SELECT count(*) FROM tag WHERE tag.event = seq) AS tags"
        " FROM event WHERE id IN (SELECT value FROM json_each(?))",
        (heads,),
    ):
        known.sizes[row["id"]] = row["bytes"] + _ROW_BYTES + _TAG_BYTES * row["tags"]


def _write(connection: sqlite3.Connection, todo: Plan, numbers: dict[str, int], raw: dict[str, bytes]) -> None:
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
        # Not kind 5: deleting a deletion request has no effect (NIP-09).
        connection.executemany(
            "DELETE FROM event WHERE (id = :target OR address = :target) AND pubkey = :pubkey"
            " AND created_at <= :until AND kind <> 5",
            [
                {"target": target, "pubkey": pubkey, "until": until}
                for (target, pubkey), until in todo.deleted.items()
            ],
        )


def _indexed(event: Event) -> set[tuple[str, str]]:
    """Name and first value of the tags that filters can ask for: those of one letter (NIP-01)."""
    return {
        (tag[0], tag[1])
        for tag in event.tags
        if len(tag) > 1 and len(tag[0]) == 1 and tag[0].isascii() and tag[0].isalpha()
    }
