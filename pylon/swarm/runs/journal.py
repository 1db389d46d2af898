"""The journal of a run on disk: its requests and answers, so that it can be taken up again without paying twice.

A request is written before it is published. A process that takes the run up finds the answers that are there; for the
other places it first asks relays about the requests that have not expired, instead of sending new ones.
"""

import asyncio
import sqlite3
import uuid
from collections.abc import Collection, Sequence
from dataclasses import fields
from hashlib import sha256
from itertools import batched
from operator import attrgetter

import orjson

from pylon.clock import BELIEVED_S, Clock
from pylon.errors import MalformedError
from pylon.money.accounts.usage import Bounds
from pylon.money.msat import Msat
from pylon.money.price import FREE, Price
from pylon.store.database import Database, Transaction
from pylon.store.group import GroupCommit
from pylon.swarm.flights import Flight
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.rows import Row
from pylon.swarm.runs.kept import Kept, Sent

# Answers of runs older than this are deleted.
KEEP_S = 7 * 86_400.0

_QUESTION = tuple(one.name for one in fields(JobSpec))
_question = attrgetter(*_QUESTION)
# How many questions are digested at once, and after how many bytes the rest of the program has its turn.
_PIECE, _TURN_BYTES = 16, 1024 * 1024
# How many rows are read in one turn of the event loop.
_AT_ONCE = 500

_BEGIN = "INSERT OR IGNORE INTO swarm_run (id, digest, jobs, created_at) VALUES (?, ?, ?, ?)"
# Runs grow old by the dates of later ones. With a date far ahead all would be old at once, and could not be taken up
# when it is right.
_FORGET = "DELETE FROM swarm_run WHERE created_at < (SELECT max(created_at) FROM swarm_run WHERE created_at <= ?) - ?"
_INSERT = (
    "INSERT INTO swarm_request (request, run, place, provider, kind, created_at, expires_at, quote, topup,"
    " bid, prompt_bytes, max_tokens, price) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


async def forget_unanswered(tx: Transaction) -> None:
    """Drops the requests that no receipt came for, of every run: whoever takes one up asks their questions anew."""
    await tx.execute(
        "DELETE FROM swarm_request WHERE NOT EXISTS (SELECT 1 FROM money_claim WHERE job = swarm_request.request)"
    )


class RunJournal:
    """The rows of one run. A request's row is written by its sender; an answer's is written in the background.

    After a crash in between the request is found unanswered, and relays are asked about it first.
    """

    def __init__(
        self, run: str, database: Database, group: GroupCommit, clock: Clock, *, row: tuple[object, ...] | None = None
    ) -> None:
        """`row` is that of a new run; None for a run that is on disk, and is taken up."""
        self.run = run
        self.taken_up = row is None
        self._database = database
        self._group = group
        self._clock = clock
        self._row = row
        # The writing of that row.
        self._begun: asyncio.Future[int] | None = None
        self._begin()

    @classmethod
    async def open(
        cls, database: Database, group: GroupCommit, clock: Clock, specs: Sequence[JobSpec], *, resume: bool
    ) -> "RunJournal":
        """Begins the journal of a new run of these questions, or with `resume` opens the last run of the same
        questions.

        The row of a new run is on disk before its first request: without it no request can be written.
        """
        digest = await digest_of(specs)
        if resume and (found := await cls._last(database, group, clock, digest)) is not None:
            return found
        run, now = uuid.uuid4().hex, clock.wall()
        journal = cls(run, database, group, clock, row=(run, digest, len(specs), now))
        group.execute_later(_FORGET, (now - BELIEVED_S, KEEP_S))
        return journal

    def _begin(self) -> None:
        if self._row is not None:
            # One flush to the disk is to serve it and the first request.
            self._begun = self._group.execute(_BEGIN, self._row, soon=False)
            self._begun.add_done_callback(_lost)

    @classmethod
    async def find(
        cls, database: Database, group: GroupCommit, clock: Clock, specs: Sequence[JobSpec]
    ) -> "RunJournal | None":
        """The last run of the same questions, or None. Raises `MalformedError` as `digest_of` does."""
        return await cls._last(database, group, clock, await digest_of(specs))

    @classmethod
    async def _last(cls, database: Database, group: GroupCommit, clock: Clock, digest: str) -> "RunJournal | None":
        found = await database.fetch_one(
            "SELECT id FROM swarm_run WHERE digest = ? AND created_at >= ? ORDER BY rowid DESC LIMIT 1",
            (digest, clock.wall() - KEEP_S),
        )
        return None if found is None else cls(found["id"], database, group, clock)

    async def kept(self) -> Kept:
        """Reads what an earlier process left of the run."""
        rows = await self._database.fetch_all("SELECT place, answer FROM swarm_outcome WHERE run = ?", (self.run,))
        answers: dict[int, Answer] = {}
        for some in batched(rows, _AT_ONCE):
            answers |= {row["place"]: Answer.of_row(orjson.loads(row["answer"])) for row in some}
            await asyncio.sleep(0)
        rows = await self._database.fetch_all(
            "SELECT * FROM swarm_request WHERE run = ? ORDER BY created_at, rowid", (self.run,)
        )
        back = {
            row["request"]
            for row in await self._database.fetch_all(
                "SELECT request FROM swarm_taken_back WHERE run = ?", (self.run,)
            )
        }
        sent: list[Sent] = []
        for some in batched(rows, _AT_ONCE):
            sent += [_sent(row, back) for row in some if row["place"] not in answers or row["quote"]]
            await asyncio.sleep(0)
        return Kept(answers, tuple(sent), tuple(row["request"] for row in rows))

    def sent(self, flight: Flight, place: int | None, expires_at: float) -> Row:
        """The row to write before this request is published. `place` None: a second opinion. See `Sent`."""
        if self._begun is not None and _lost(self._begun):
            # The run's own row was lost with a write that failed. Queued again, it is written before its request.
            self._begin()
        offer, price = flight.offer, FREE
        # Of the offer: quote, topup, bid, prompt bytes, most tokens.
        terms: tuple[int | None, ...] = (None, None, 0, 0, 0)
        if offer is not None:
            price, bounds = offer.listing.price, offer.bounds
            topup = None if offer.topup is None else int(offer.topup)
            terms = (int(offer.quote), topup, int(offer.bid), bounds.prompt_bytes, bounds.max_tokens)
        rates = [int(price.base_msat), int(price.in_msat_per_1k), int(price.out_msat_per_1k)]
        asked = (flight.request, self.run, place, flight.provider, flight.kind, flight.created_at, expires_at)
        return Row(self._group, _INSERT, (*asked, *terms, orjson.dumps(rates).decode()))

    def taken_back(self, request: str) -> None:
        """Notes that a request's provider is told to stop, so that a process that takes the run up does not wait."""
        self._group.execute_later(
            "INSERT INTO swarm_taken_back (run, request) VALUES (?, ?)", (self.run, request), soon=True
        )

    def filled(self, place: int, answer: Answer) -> None:
        """Writes the answer of a place, in the background."""
        self._group.execute_later(
            "INSERT OR REPLACE INTO swarm_outcome (run, place, answer) VALUES (?, ?, ?)",
            (self.run, place, orjson.dumps(answer).decode()),
            soon=True,
        )

    def unfilled(self, place: int) -> None:
        """Deletes the answer of a place, which was no good, in the background."""
        self._group.execute_later(
            "DELETE FROM swarm_outcome WHERE run = ? AND place = ?", (self.run, place), soon=True
        )

    def ended(self) -> asyncio.Future[int]:
        """Notes that the run is complete; done when that is on disk."""
        return self._group.execute("UPDATE swarm_run SET ended_at = ? WHERE id = ?", (self._clock.wall(), self.run))


def _lost(begun: asyncio.Future[int]) -> bool:
    """Whether it is known that this was not written."""
    return begun.done() and begun.exception() is not None


async def digest_of(specs: Sequence[JobSpec]) -> str:
    """The digest that identifies a list of questions; their timeouts are not part of it.

    Raises `MalformedError` for questions that cannot be written as JSON.
    """
    whole, unread = sha256(b"["), 0
    # In pieces that stay in the processor's cache. A hundred thousand questions take half a second in all, of which
    # others get their turns.
    for at in range(0, len(specs), _PIECE):
        piece = specs[at : at + _PIECE]
        rows = [dict(zip(_QUESTION, _question(spec), strict=True), timeout=None) for spec in piece]
        try:
            written = orjson.dumps(rows, option=orjson.OPT_SORT_KEYS)
        except TypeError as error:
            raise MalformedError(f"these questions cannot be written as JSON: {error}") from error
        if at:
            whole.update(b",")
        whole.update(memoryview(written)[1:-1])
        unread += len(written)
        if unread >= _TURN_BYTES:
            unread = 0
            await asyncio.sleep(0)
    whole.update(b"]")
    return whole.hexdigest()


def _sent(row: sqlite3.Row, taken_back: Collection[str]) -> Sent:
    return Sent(
        request=row["request"],
        place=row["place"],
        provider=row["provider"],
        kind=row["kind"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        quote=None if row["quote"] is None else Msat(row["quote"]),
        topup=None if row["topup"] is None else Msat(row["topup"]),
        bid=Msat(row["bid"]),
        bounds=Bounds(row["prompt_bytes"], row["max_tokens"]),
        price=Price(*(Msat(amount) for amount in orjson.loads(row["price"]))),
        taken_back=row["request"] in taken_back,
    )
