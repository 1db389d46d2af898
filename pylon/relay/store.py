"""The relay's events in SQLite.

An event is kept as the JSON that is sent to subscribers, so that nothing is encoded to serve it. Every event gets a
sequence number (`seq`) when it is stored, larger than all earlier ones.
"""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import orjson

from pylon.clock import Clock, SystemClock
from pylon.nostr.filter import Filter
from pylon.records import record
from pylon.relay import rows
from pylon.relay.lookups import Lookups
from pylon.relay.queries import Reader, Withheld, apart, counted, newest
from pylon.relay.retention import Outcome, plan
from pylon.relay.rows import Publication
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
        f"""
        CREATE INDEX event_private ON event (kind, created_at) WHERE private = 1;
        CREATE INDEX event_of_jobs ON event (created_at) WHERE {rows.OF_JOBS};
        """,
    ),
)


@record
class Placed:
    """What became of a published event; `seq` is its sequence number if it was stored, else 0."""

    outcome: Outcome
    seq: int = 0


class EventStore:
    """Stored events. One writer: `insert` and `purge` take turns at the database."""

    def __init__(
        self, database: Database, lookups: Lookups, last_seq: int, max_bytes: int | None, clock: Clock
    ) -> None:
        self._database = database
        self._lookups = lookups
        self._last_seq = last_seq
        self._max_bytes = max_bytes
        self._clock = clock

    @classmethod
    async def open(
        cls, path: Path, *, max_bytes: int | None = None, lookup_s: float = math.inf, clock: Clock | None = None
    ) -> "EventStore":
        """Opens or creates the file, of at most `max_bytes` (None: any size). Raises `SetupError`.

        `find` and `count` break off a lookup after `lookup_s` seconds: they raise `sqlite3.OperationalError`, see
        `lookups.took_too_long`.
        """
        # NORMAL: an acknowledged event survives a crash of this process. Surviving a power cut too is not worth its
        # cost: a client that must not lose an event keeps it until another party has acted on it.
        database = await Database.open(path, [SCHEMA], label="relay", durability="NORMAL")
        row = await database.fetch_one("SELECT max(seq) FROM event")
        clock = clock or SystemClock()
        lookups = await Lookups.open(database, clock, lookup_s)
        return cls(database, lookups, (row[0] or 0) if row else 0, max_bytes, clock)

    @property
    def last_seq(self) -> int:
        """The sequence number of the last stored event; 0 if there was none yet."""
        return self._last_seq

    async def close(self) -> None:
        """Closes the file."""
        await self._lookups.close()
        await self._database.close()

    async def insert(self, batch: Sequence[Publication]) -> list[Placed]:
        """Stores a batch in one transaction, committed on return. Returns what became of each event, in order."""
        events = [publication.event for publication in batch]
        raw = {publication.event.id: publication.raw for publication in batch}
        last_seq = self._last_seq

        async with self._database.transaction_here() as tx:
            known = rows.known_of(tx.connection, events)
            space = None
            if self._max_bytes is not None:
                space = rows.space(tx.connection, self._max_bytes, int(self._clock.wall()))
                rows.measure(tx.connection, batch, known)
            todo = plan(events, known, space)
            numbers = {id_: last_seq + n for n, id_ in enumerate(todo.keep, 1)}
            rows.write(tx.connection, todo, numbers, raw)
        self._last_seq += len(numbers)
        return [
            Placed(outcome, numbers.get(event.id, 0)) for event, outcome in zip(events, todo.outcomes, strict=True)
        ]

    async def find(
        self, filters: Sequence[Filter], limit: int, reader: Reader, withheld: Withheld | None = None
    ) -> dict[int, int]:
        """Sequence numbers of the matching events and their bytes; newest first, of equal time the lowest id
        (NIP-01).

        `limit` bounds the events of each filter. With `withheld`, only events that it names. Raises `sqlite3.Error`.
        """
        wanted = [(filter_, apart(filter_)) for filter_ in filters if filter_.limit != 0]
        queries = [newest(part, limit, reader, withheld) for _, parts in wanted for part in parts]
        answers = iter(await self._lookups.look_up(queries, reader.client))
        found: dict[int, tuple[int, str, int]] = {}
        for filter_, parts in wanted:
            keyed = [(-at, id_, size, seq) for _ in parts for seq, at, id_, size in next(answers)]
            few = limit if filter_.limit is None else min(limit, filter_.limit)
            found.update((seq, (at, id_, size)) for at, id_, size, seq in sorted(keyed)[:few])
        return {seq: found[seq][2] for seq in sorted(found, key=found.__getitem__)}

    async def load(self, numbers: Sequence[int]) -> list[bytes]:
        """The JSON of the events with these sequence numbers, in order. Events deleted meanwhile are left out."""
        found = await self._database.fetch_all(
            "SELECT seq, raw FROM event WHERE seq IN (SELECT value FROM json_each(?))",
            (orjson.dumps(numbers).decode(),),
        )
        raw = {row["seq"]: row["raw"] for row in found}
        return [raw[seq] for seq in numbers if seq in raw]

    async def count(self, filters: Sequence[Filter], reader: Reader) -> int:
        """How many events match at least one of the filters (NIP-45). Raises `sqlite3.Error`."""
        [[[number]]] = await self._lookups.look_up([counted(filters, reader)], reader.client)
        return int(number)

    async def purge(self, now: int, limit: int = 1_000) -> int:
        """Deletes up to `limit` events that have expired (NIP-40) by `now`, Unix seconds; returns how many."""
        return await self._database.write(lambda connection: connection.execute(rows.PURGE, (now, limit)).rowcount)

    async def make_room(self, now: int, limit: int = 1_000) -> int:
        """Deletes up to `limit` jobs, results and cancellations over a week old, the oldest first, if room is scarce.

        Returns how many.
        """
        bound = self._max_bytes
        return 0 if bound is None else await self._database.write(partial(rows.make_room, bound, now, limit))
