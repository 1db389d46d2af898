"""The provider's journal: one row a job, written before the step it stands for is taken.

    awaiting_funds ─► queued ─► signed ─► settled | undelivered
    any before signed ─► expired | cancelled | failed

`awaiting_funds` rows wait for their customer's payment (`till`). They and `queued` ones hold the request as it
came (ciphertext, in the private form), `signed` ones the whole result event, so that after a crash the first run
again and the second are published again under the same id. Which of the queued jobs is being run is not written:
it would change nothing about recovery; how much was sent of an answer in pieces is, since its customer owes that
when it takes the job back. A settled row keeps its result until nobody may ask for it again, then the
numbers alone. Of an `undelivered` one no relay had the result before that expired: it is gone, and what it charged
stands, since the receipts after it count it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from pylon.money.usage import Usage
from pylon.nostr.event import Event, loads_event
from pylon.provider.queue import Job
from pylon.records import record
from pylon.store.database import Database, Schema, Transaction
from pylon.store.group import Batch, GroupCommit, Step

# Of both tables below: another column is a migration of its own.
_JOB = """
    id TEXT PRIMARY KEY,
    customer TEXT NOT NULL,
    kind INTEGER NOT NULL,
    state TEXT NOT NULL,
    code TEXT NOT NULL DEFAULT '',
    relay TEXT NOT NULL,
    model TEXT NOT NULL DEFAULT '',
    received_at REAL NOT NULL,
    expires_at INTEGER NOT NULL,
    finished_at REAL,
    prompt_tokens INTEGER NOT NULL DEFAULT 0,
    completion_tokens INTEGER NOT NULL DEFAULT 0,
    run_ms INTEGER NOT NULL DEFAULT 0,
    charge_msat INTEGER NOT NULL DEFAULT 0,
    request BLOB,
    result BLOB
"""

SCHEMA = Schema(
    "provider",
    (
        f"""
        CREATE TABLE job ({_JOB}) STRICT, WITHOUT ROWID;
        CREATE INDEX job_state ON job (state, received_at);
        CREATE INDEX job_received ON job (received_at);
        CREATE TABLE provider_setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
        """,
        # A table with row numbers: without, rows lie in the tree of their ids, and each change of a state writes
        # the contents anew.
        f"""
        CREATE TABLE numbered_job ({_JOB}) STRICT;
        INSERT INTO numbered_job SELECT * FROM job;
        DROP TABLE job;
        ALTER TABLE numbered_job RENAME TO job;
        CREATE INDEX job_state ON job (state, received_at);
        CREATE INDEX job_received ON job (received_at);
        """,  # noqa: S608 - the columns above
    ),
)


class JobState(StrEnum):
    """See the module."""

    AWAITING_FUNDS = "awaiting_funds"
    QUEUED = "queued"
    SIGNED = "signed"
    SETTLED = "settled"
    UNDELIVERED = "undelivered"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Row:
    """One job as the journal knows it, without its contents. Times are Unix seconds."""

    id: str
    customer: str
    kind: int
    state: JobState
    code: str
    model: str
    received_at: float
    finished_at: float | None
    prompt_tokens: int
    completion_tokens: int
    run_ms: int
    charge_msat: int


@dataclass(frozen=True, slots=True)
class Pending:
    """What a crash left: a request to run again or to be paid for, or a result to publish again.

    `sent` is what its customer had been sent of the answer, in pieces.
    """

    event: Event
    relay: str
    received_at: float
    state: JobState
    result: Event | None
    sent: Usage | None = None


@record
class Work:
    """What a job took. `finished_at` is Unix seconds."""

    prompt_tokens: int
    completion_tokens: int
    run_ms: int
    finished_at: float


_INSERT = (
    "INSERT INTO job (id, customer, kind, state, relay, model, received_at, expires_at, request)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
_SIGN = (
    "UPDATE job SET state = 'signed', result = ?, request = NULL, prompt_tokens = ?, completion_tokens = ?,"
    " run_ms = ?, finished_at = ?, charge_msat = ? WHERE id = ? AND state = 'queued'"
)
_SENT = "UPDATE job SET prompt_tokens = ?, completion_tokens = ? WHERE id = ? AND state = 'queued'"
_END = (
    "UPDATE job SET state = ?, code = ?, finished_at = ?, request = NULL, prompt_tokens = 0, completion_tokens = 0"
    " WHERE id = ? AND state IN ('awaiting_funds', 'queued')"
)


def _admission(job: Job) -> tuple[object, ...]:
    event = job.event
    row = (job.relay, job.terms.model, job.received_at, job.terms.expires_at)
    return (event.id, event.pubkey, event.kind, JobState.QUEUED.value, *row, event.to_json())


def _signature(job_id: str, result: Event, work: Work, charge_msat: int) -> tuple[object, ...]:
    tokens = (work.prompt_tokens, work.completion_tokens)
    return (result.to_json(), *tokens, work.run_ms, work.finished_at, charge_msat, job_id)


async def insert(tx: Transaction, job: Job) -> bool:
    """Writes an admitted job; False when it was taken on before."""
    return await tx.execute(_INSERT, _admission(job)) == 1


async def move(tx: Transaction, job_id: str, before: JobState, after: JobState) -> None:
    """Moves a job on, if it is where it was thought to be."""
    await tx.execute("UPDATE job SET state = ? WHERE id = ? AND state = ?", (after.value, job_id, before.value))


async def state(tx: Transaction, job_id: str) -> JobState | None:
    """Where a job stands; None for one that was never taken on."""
    row = await tx.fetch_one("SELECT state FROM job WHERE id = ?", (job_id,))
    return None if row is None else JobState(row["state"])


async def sign(tx: Transaction, results: Iterable[tuple[str, Event, Work, int]]) -> int:
    """Writes the results of jobs that are queued, and what each took and cost; how many there were."""
    return await tx.execute_many(_SIGN, [_signature(*result) for result in results])


async def end(tx: Transaction, job_id: str, state: JobState, *, code: str, finished_at: float) -> None:
    """Writes that a job ended without a result."""
    await tx.execute(_END, (state.value, code, finished_at, job_id))


class Journal:
    """Writes return when they are on disk, but for `settled`, `undelivered` and `sent`."""

    def __init__(self, database: Database, group: GroupCommit) -> None:
        self._database = database
        self._group = group

    async def admitted(self, job: Job) -> bool:
        """A job is taken on that no account has to answer for; False when it was before."""
        return await self._group.execute(_INSERT, _admission(job)) == 1

    async def signed(self, job_id: str, result: Event, work: Work) -> None:
        """A result exists; from here on this one and no other is the answer."""
        await self._group.execute(_SIGN, _signature(job_id, result, work, 0))

    async def transact[T](self, step: Step[T]) -> T:
        """Runs a step that joins the journal with other tables (see `GroupCommit.submit`)."""
        return await self._group.submit(step)

    async def transact_in[I, T](self, batch: Batch[I, T], item: I) -> T:
        """The same for one that takes many items at once (see `GroupCommit.submit_to`)."""
        return await self._group.submit_to(batch, item)

    def settled(self, job_id: str) -> None:
        """A relay has the result, and nothing is owed. Nobody waits for this row: a crash publishes once more."""
        self._group.execute_later("UPDATE job SET state = 'settled' WHERE id = ? AND state = 'signed'", (job_id,))

    def undelivered(self, job_id: str) -> None:
        """No relay had the result before it expired. Nobody waits for this row either."""
        self._group.execute_later(
            "UPDATE job SET state = 'undelivered', result = NULL WHERE id = ? AND state = 'signed'", (job_id,)
        )

    def sent(self, job_id: str, sent: Usage) -> None:
        """Relays have so much of an answer that is being made. It goes along with the next write, within half a
        second: what a crash loses of it costs its customer nothing."""
        self._group.execute_later(_SENT, (sent.prompt_tokens, sent.completion_tokens, job_id))

    async def ended(self, job_id: str, state: JobState, *, code: str, finished_at: float) -> None:
        """A job ends without a result."""
        await self._group.execute(_END, (state.value, code, finished_at, job_id))

    async def pending(self) -> list[Pending]:
        """What a crash left, oldest first."""
        rows = await self._database.fetch_all(
            "SELECT request, result, relay, received_at, state, prompt_tokens, completion_tokens FROM job"
            " WHERE state IN ('awaiting_funds', 'queued', 'signed') ORDER BY received_at"
        )
        found: list[Pending] = []
        for row in rows:
            result = None if row["result"] is None else loads_event(row["result"])
            event = loads_event(row["request"]) if row["request"] is not None else result
            if event is not None:
                # A piece has a token at least.
                counted = Usage(row["prompt_tokens"], row["completion_tokens"])
                sent = counted if result is None and counted.completion_tokens else None
                found.append(Pending(event, row["relay"], row["received_at"], JobState(row["state"]), result, sent))
        return found

    async def known(self, job_ids: Iterable[str]) -> dict[str, Event | None]:
        """Which of these jobs were taken on before, each with its result if there is one still."""
        ids = list(job_ids)
        marks = ",".join("?" * len(ids))
        rows = await self._database.fetch_all(f"SELECT id, result FROM job WHERE id IN ({marks})", ids)  # noqa: S608
        return {row["id"]: None if row["result"] is None else loads_event(row["result"]) for row in rows}

    async def forget(self, *, results_before: float, rows_before: float) -> None:
        """Drops contents of jobs whose deadline lies before the first time, whole rows before the second."""
        await self._group.execute(
            "UPDATE job SET result = NULL WHERE state = 'settled' AND result NOT NULL AND expires_at < ?",
            (int(results_before),),
        )
        await self._group.execute(
            "DELETE FROM job WHERE state NOT IN ('awaiting_funds', 'queued', 'signed') AND received_at < ?",
            (rows_before,),
        )

    async def rows(self, *, limit: int = 50, state: JobState | None = None) -> list[Row]:
        """The newest jobs."""
        rows = await self._database.fetch_all(
            "SELECT id, customer, kind, state, code, model, received_at, finished_at, prompt_tokens,"
            " completion_tokens, run_ms, charge_msat FROM job WHERE state = coalesce(?, state)"
            " ORDER BY received_at DESC LIMIT ?",
            (state, limit),
        )
        return [Row(**{**dict(row), "state": JobState(row["state"])}) for row in rows]

    async def customers(self, most: int) -> list[str]:
        """Whose the newest jobs are, the latest last."""
        rows = await self._database.fetch_all("SELECT customer FROM job ORDER BY received_at DESC LIMIT ?", (most,))
        return [row["customer"] for row in reversed(rows)]

    async def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        rows = await self._database.fetch_all("SELECT state, count(*) AS n FROM job GROUP BY state")
        return {row["state"]: row["n"] for row in rows}

    async def setting(self, name: str) -> str:
        """A small thing to remember over restarts, or an empty string."""
        row = await self._database.fetch_one("SELECT value FROM provider_setting WHERE name = ?", (name,))
        return "" if row is None else str(row["value"])

    async def remember(self, name: str, value: str) -> None:
        """Remembers it."""
        await self._group.execute(
            "INSERT INTO provider_setting VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            (name, value),
        )
