"""The rows of the journal: their states, their columns, and the statements that change them.

    awaiting_funds ─► queued ─► signed ─► settled | undelivered
    any before signed ─► expired | cancelled | failed

Each statement names the state that a row must be in: of two that come at once, the second one changes nothing.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from pylon.money.accounts.usage import Usage
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.nostr.event import Event, loads_event
from pylon.provider.queue import Job
from pylon.records import record
from pylon.store.database import Schema, Transaction

# The columns of the tables that the first two migrations make.
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
        # With row numbers, unlike above: in a table WITHOUT ROWID each change of a state writes the contents again.
        f"""
        CREATE TABLE numbered_job ({_JOB}) STRICT;
        INSERT INTO numbered_job SELECT * FROM job;
        DROP TABLE job;
        ALTER TABLE numbered_job RENAME TO job;
        CREATE INDEX job_state ON job (state, received_at);
        CREATE INDEX job_received ON job (received_at);
        """,  # noqa: S608 - the columns above
        # For jobs that wait already it is not known whether pieces of their answers are out: assume that they are.
        """
        ALTER TABLE job ADD COLUMN begun INTEGER NOT NULL DEFAULT 0;
        UPDATE job SET begun = 1 WHERE state = 'queued';
        """,
        # The quote, its price, and the longest answer in tokens; NULL in older rows.
        """
        ALTER TABLE job ADD COLUMN quote_msat INTEGER;
        ALTER TABLE job ADD COLUMN base_msat INTEGER;
        ALTER TABLE job ADD COLUMN in_msat_per_1k INTEGER;
        ALTER TABLE job ADD COLUMN out_msat_per_1k INTEGER;
        ALTER TABLE job ADD COLUMN max_tokens INTEGER;
        """,
        # Requests whose customers were told that they are refused.
        "CREATE TABLE refused_request (id TEXT PRIMARY KEY, code TEXT NOT NULL, said_at REAL NOT NULL) STRICT;",
        # Finds the few results that are still kept, among the rows of months.
        "CREATE INDEX job_result ON job (expires_at) WHERE state = 'settled' AND result NOT NULL;",
    ),
)


class JobState(StrEnum):
    """See the diagram above; `pylon.provider.journal` says what each means."""

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
    """A job of the journal without its contents. Times are Unix seconds, `charge_msat` is what it cost."""

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


@record
class Agreed:
    """The terms that a job was taken on: the most that it costs, the price, and its longest answer in tokens."""

    quote: Msat
    price: Price
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Pending:
    """A job that an earlier process left unfinished. Times are Unix seconds."""

    # The request, to be paid for or run again; the same as `result` where that is set.
    event: Event
    relay: str
    received_at: float
    expires_at: int
    state: JobState
    # The result, or the error of a job that has ended, to be published again.
    result: Event | None
    # The id of the model that it was taken on for.
    model: str
    # How much of the answer was sent in pieces; None if that is none, as is certain while `begun` is False.
    sent: Usage | None = None
    begun: bool = False
    # None in a row that was written before the journal had these columns.
    agreed: Agreed | None = None


@record
class Work:
    """What a job took: tokens, milliseconds of the engine, and when it ended in Unix seconds."""

    prompt_tokens: int
    completion_tokens: int
    run_ms: int
    finished_at: float


INSERT = (
    "INSERT INTO job (id, customer, kind, state, relay, model, received_at, expires_at, request, quote_msat,"
    " base_msat, in_msat_per_1k, out_msat_per_1k, max_tokens)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
SIGN = (
    "UPDATE job SET state = 'signed', result = ?, request = NULL, prompt_tokens = ?, completion_tokens = ?,"
    " run_ms = ?, finished_at = ?, charge_msat = ? WHERE id = ? AND state = 'queued'"
)
BEGIN = "UPDATE job SET begun = 1 WHERE id = ? AND state = 'queued'"
SENT = "UPDATE job SET prompt_tokens = ?, completion_tokens = ? WHERE id = ? AND state = 'queued'"
SETTLE = "UPDATE job SET state = 'settled' WHERE id = ? AND state = 'signed'"
GIVE_UP = "UPDATE job SET state = 'undelivered', result = NULL WHERE id = ? AND state = 'signed'"
END = (
    "UPDATE job SET state = ?, code = ?, finished_at = ?, result = ?, request = NULL, prompt_tokens = 0,"
    " completion_tokens = 0 WHERE id = ? AND state IN ('awaiting_funds', 'queued')"
)
# By itself SQLite uses `job_state`, and scans every job that was ever settled.
FORGET_RESULTS = (
    "UPDATE job INDEXED BY job_result SET result = NULL"
    " WHERE state = 'settled' AND result NOT NULL AND expires_at < ?"
)
FORGET = "DELETE FROM job WHERE state NOT IN ('awaiting_funds', 'queued', 'signed') AND received_at < ?"
DROP_ERROR = "UPDATE job SET result = NULL WHERE id = ? AND state IN ('expired', 'cancelled', 'failed')"


def admission(job: Job) -> tuple[object, ...]:
    """The values of `INSERT`."""
    event, terms, price = job.event, job.terms, job.terms.price
    assert event is not None  # noqa: S101 - only what is journaled is ever put aside
    row = (job.relay, terms.model, job.received_at, terms.expires_at)
    amounts = map(int, (terms.quote, price.base_msat, price.in_msat_per_1k, price.out_msat_per_1k))
    whose = (event.id, event.pubkey, event.kind, JobState.QUEUED.value)
    return (*whose, *row, event.to_json(), *amounts, terms.max_tokens)


def signature(job_id: str, result: Event, work: Work, charge_msat: int) -> tuple[object, ...]:
    """The values of `SIGN`."""
    tokens = (work.prompt_tokens, work.completion_tokens)
    return (result.to_json(), *tokens, work.run_ms, work.finished_at, charge_msat, job_id)


async def insert(tx: Transaction, job: Job) -> bool:
    """Writes an admitted job; False if the journal has it already."""
    return await tx.execute(INSERT, admission(job)) == 1


async def move(tx: Transaction, job_id: str, before: JobState, after: JobState) -> None:
    """Moves a job to state `after`, if it is in state `before`."""
    await tx.execute("UPDATE job SET state = ? WHERE id = ? AND state = ?", (after.value, job_id, before.value))


async def state(tx: Transaction, job_id: str) -> JobState | None:
    """The state of a job; None if the journal does not have it."""
    row = await tx.fetch_one("SELECT state FROM job WHERE id = ?", (job_id,))
    return None if row is None else JobState(row["state"])


async def sign(tx: Transaction, results: Iterable[tuple[str, Event, Work, int]]) -> int:
    """Writes results: for each the job's id, the event, what it took, and its charge in msat. Returns how many of the
    jobs were queued, and so have a result now."""
    return await tx.execute_many(SIGN, [signature(*result) for result in results])


async def end(
    tx: Transaction, job_id: str, state: JobState, *, code: str, finished_at: float, feedback: Event | None = None
) -> None:
    """Ends a job without a result. `feedback`, its error, is kept until a relay has it."""
    await tx.execute(END, (state.value, code, finished_at, None if feedback is None else feedback.to_json(), job_id))


_LEFT = (
    "state IN ('awaiting_funds', 'queued', 'signed')"
    " OR (state IN ('expired', 'cancelled', 'failed') AND result NOT NULL)"
)
LEFT = f"SELECT id FROM job WHERE {_LEFT} ORDER BY received_at"  # noqa: S608 - the states above
PENDING = (
    "SELECT request, result, relay, received_at, expires_at, state, model, prompt_tokens, completion_tokens, begun,"
    " quote_msat, base_msat, in_msat_per_1k, out_msat_per_1k, max_tokens FROM job"
    " WHERE id = ?"
)
NEWEST = (
    "SELECT id, customer, kind, state, code, model, received_at, finished_at, prompt_tokens,"
    " completion_tokens, run_ms, charge_msat FROM job WHERE state = coalesce(?, state)"
    " ORDER BY received_at DESC LIMIT ?"
)

CUSTOMERS = (
    "SELECT customer, min(received_at) AS first, max(received_at) AS last"
    " FROM (SELECT customer, state, received_at FROM job ORDER BY received_at DESC LIMIT ?)"
    " WHERE state IN ('signed', 'settled', 'undelivered') GROUP BY customer ORDER BY last"
)


def pending(row: sqlite3.Row) -> Pending | None:
    """A row of `PENDING` as a value; None if it has neither request nor result."""
    result = None if row["result"] is None else loads_event(row["result"])
    event = loads_event(row["request"]) if row["request"] is not None else result
    if event is None:
        return None
    # Every piece has at least one token, so a count of 0 means that none was sent.
    counted = Usage(row["prompt_tokens"], row["completion_tokens"])
    sent = counted if result is None and counted.completion_tokens else None
    state = JobState(row["state"])
    begun = bool(row["begun"])
    times = (row["received_at"], row["expires_at"])
    return Pending(event, row["relay"], *times, state, result, row["model"], sent, begun, _agreed(row))


def _agreed(row: sqlite3.Row) -> Agreed | None:
    if row["quote_msat"] is None:
        return None
    price = Price(Msat(row["base_msat"]), Msat(row["in_msat_per_1k"]), Msat(row["out_msat_per_1k"]))
    return Agreed(Msat(row["quote_msat"]), price, row["max_tokens"])


def newest(row: sqlite3.Row) -> Row:
    """A row of `NEWEST` as a value."""
    return Row(**{**dict(row), "state": JobState(row["state"])})
