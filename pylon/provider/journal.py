"""The provider's journal: one row a job, written before each step of the job is taken.

- An `awaiting_funds` row waits for its customer's payment (`payments/payment_gate`), a `queued` one for the engine.
  Both hold the request event (encrypted, in the private form). After a crash their jobs wait or run again.
- A `signed` row holds the whole result event. After a crash it is published again under the same id.
- A `settled` row keeps its result until nobody may ask for it again, and then only its numbers.
- An `undelivered` row has lost its result: no relay took it before it expired. Its charge stands, because later
  receipts count it.
- An `expired`, `cancelled` or `failed` row may hold the error feedback for its customer, until a relay has it. That
  is so for a job of an earlier process that this one cannot do, and for a paid one that its customer takes back.

Whether a queued job has begun is written only for jobs whose answers go out in pieces: the answer may be different
when it is made again, and its pieces must not mix with the first ones. How much was sent is written too, because the
customer owes that if it takes the job back.
"""

import math
import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence

from pylon.money.accounts.usage import Usage
from pylon.nostr.event import Event, loads_event
from pylon.provider import rows
from pylon.provider.queue import Job
from pylon.provider.rows import JobState, Pending, Row, Work
from pylon.store.database import Database, Transaction
from pylon.store.group import Batch, GroupCommit, Step


class Journal:
    """Writes return when they are on disk, except `settled`, `undelivered`, `drop_error` and `sent`.

    After a crash, what those four had not written yet is done once more, or costs a customer nothing. Writes raise
    `sqlite3.Error`.
    """

    def __init__(self, database: Database, group: GroupCommit) -> None:
        self._database = database
        self._group = group

    async def admitted(self, job: Job) -> bool:
        """Writes a job that is taken on without an account; False if the journal has it already."""
        return await self._group.execute(rows.INSERT, rows.admission(job)) == 1

    async def signed(self, job_id: str, result: Event, work: Work) -> None:
        """Writes a job's result. From here on this event and no other is the answer."""
        await self._group.execute(rows.SIGN, rows.signature(job_id, result, work, 0))

    async def transact[T](self, step: Step[T]) -> T:
        """Runs a step that writes to the journal and other tables together (see `GroupCommit.submit`)."""
        return await self._group.submit(step)

    async def transact_in[I, T](self, batch: Batch[I, T], item: I) -> T:
        """The same for a step that handles many items at once (see `GroupCommit.submit_to`)."""
        return await self._group.submit_to(batch, item)

    def settled(self, job_id: str) -> None:
        """Settles a job: a relay has its result. If a crash loses this write, the result is published once more."""
        self._group.execute_later(rows.SETTLE, (job_id,))

    def undelivered(self, job_id: str) -> None:
        """Gives up a result that no relay took before it expired."""
        self._group.execute_later(rows.GIVE_UP, (job_id,))

    def drop_error(self, job_id: str) -> None:
        """Drops the error feedback of a job that has ended: a relay has it, or it has expired."""
        self._group.execute_later(rows.DROP_ERROR, (job_id,))

    async def may_run(self, job_id: str) -> None:
        """Queues a job that waited for a payment and needs none any more."""
        await self.transact(lambda tx: rows.move(tx, job_id, JobState.AWAITING_FUNDS, JobState.QUEUED))

    async def begun(self, job_id: str) -> None:
        """Notes that pieces of a job's answer go out from now on: after a crash, no pieces of another answer may."""
        await self._group.execute(rows.BEGIN, (job_id,))

    def sent(self, job_id: str, sent: Usage) -> None:
        """Notes how much of a job's answer relays have. It is written within half a second, along with the next
        write. What a crash loses of it is not charged."""
        self._group.execute_later(rows.SENT, (sent.prompt_tokens, sent.completion_tokens, job_id))

    async def pending(self) -> AsyncIterator[Pending]:
        """What an earlier process left unfinished, oldest first. Rows are read one by one: all of them may be more
        than memory holds."""
        for left in await self._database.fetch_all(rows.LEFT):
            row = await self._database.fetch_one(rows.PENDING, (left["id"],))
            if row is not None and (pending := rows.pending(row)) is not None:
                yield pending

    async def request(self, job_id: str) -> Event:
        """The request event of a job that has not ended. Raises `LookupError` for any other job."""
        row = await self._database.fetch_one("SELECT request FROM job WHERE id = ?", (job_id,))
        if row is None or row["request"] is None:
            raise LookupError(f"the journal has no request of job {job_id}")
        return loads_event(row["request"])

    async def known(self, job_ids: Iterable[str]) -> dict[str, Event | None]:
        """Those of these jobs that the journal has, each with its result if that is still kept."""
        ids = list(job_ids)
        marks = ",".join("?" * len(ids))
        found = await self._database.fetch_all(f"SELECT id, result FROM job WHERE id IN ({marks})", ids)  # noqa: S608
        return {row["id"]: None if row["result"] is None else loads_event(row["result"]) for row in found}

    async def refuse(self, refusals: Sequence[tuple[str, str, float]]) -> None:
        """Writes down refusals: for each the request's id, the error code, and the time in Unix seconds."""

        async def step(tx: Transaction) -> None:
            await tx.execute_many("INSERT OR REPLACE INTO refused_request VALUES (?, ?, ?)", refusals)

        await self.transact(step)

    async def refused(self, *, since: float, most: int) -> list[sqlite3.Row]:
        """The refusals since a time (Unix seconds), the latest `most` of them, the oldest first.

        The columns are `id`, `code` and `said_at`.
        """
        found = await self._database.fetch_all(
            "SELECT id, code, said_at FROM refused_request WHERE said_at > ? ORDER BY said_at DESC LIMIT ?",
            (since, most),
        )
        return found[::-1]

    async def forget_refusals(self, *, before: float) -> None:
        """Deletes the refusals from before a time (Unix seconds)."""
        # On the database's own thread, as below: there may be thousands of rows.
        await self._database.write(
            lambda connection: connection.execute("DELETE FROM refused_request WHERE said_at < ?", (before,))
        )

    async def forget(self, *, results_before: float, rows_before: float) -> None:
        """Deletes results of jobs with a deadline before `results_before`, and rows of ended jobs that came before
        `rows_before`. Times are Unix seconds."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(rows.FORGET_RESULTS, (int(results_before),))
            connection.execute(rows.FORGET, (rows_before,))

        # There may be thousands of rows. On the database's own thread they do not hold up the event loop.
        await self._database.write(work)

    async def latest(self, *, until: float) -> float:
        """When the latest job came that came by `until`, in Unix seconds; minus infinity if there is none."""
        row = await self._database.fetch_one("SELECT max(received_at) FROM job WHERE received_at <= ?", (until,))
        return -math.inf if row is None or row[0] is None else float(row[0])

    async def rows(self, *, limit: int = 50, state: JobState | None = None) -> list[Row]:
        """The newest `limit` jobs, or those of them in this state."""
        found = await self._database.fetch_all(rows.NEWEST, (state, limit))
        return [rows.newest(row) for row in found]

    async def customers(self, most: int) -> list[tuple[str, float, float]]:
        """The customers of the newest `most` jobs, as far as these were done, the latest last.

        With each, when the first and the last of its jobs came, in Unix seconds.
        """
        found = await self._database.fetch_all(rows.CUSTOMERS, (most,))
        return [(row["customer"], row["first"], row["last"]) for row in found]

    async def counts(self) -> dict[str, int]:
        """The number of jobs by state."""
        found = await self._database.fetch_all("SELECT state, count(*) AS n FROM job GROUP BY state")
        return {row["state"]: row["n"] for row in found}

    async def setting(self, name: str) -> str:
        """The value of a setting that lasts over restarts; empty if it was never set."""
        row = await self._database.fetch_one("SELECT value FROM provider_setting WHERE name = ?", (name,))
        return "" if row is None else str(row["value"])

    async def remember(self, name: str, value: str) -> None:
        """Sets such a setting."""
        await self._group.execute(
            "INSERT INTO provider_setting VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            (name, value),
        )
