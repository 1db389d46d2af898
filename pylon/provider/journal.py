"""The provider's journal: one row a job, written before the step it stands for is taken.

`awaiting_funds` rows wait for their customer's payment (`till`). They and `queued` ones hold the request as it came
(ciphertext, in the private form), `signed` ones the whole result event, so that after a crash the first run again
and the second are published again under the same id. Which of the queued jobs is being run is written of those
alone whose answers go out in pieces: made again, an answer may be another, and no piece of that may follow. How
much was sent of it is written too, since its customer owes that when it takes the job back. A settled row keeps its
result until nobody may ask for it again, then the numbers alone. Of an `undelivered` one no relay had the result
before that expired: it is gone, and what it charged stands, since the receipts after it count it. A job that an
earlier process took on and this one cannot do ends with the error that its customer is told in its result's place,
until a relay has that; so does one with a price that its customer takes back.
"""

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
    """Writes return when they are on disk, but for `settled`, `undelivered`, `told` and `sent`."""

    def __init__(self, database: Database, group: GroupCommit) -> None:
        self._database = database
        self._group = group

    async def admitted(self, job: Job) -> bool:
        """A job is taken on that no account has to answer for; False when it was before."""
        return await self._group.execute(rows.INSERT, rows.admission(job)) == 1

    async def signed(self, job_id: str, result: Event, work: Work) -> None:
        """A result exists; from here on this one and no other is the answer."""
        await self._group.execute(rows.SIGN, rows.signature(job_id, result, work, 0))

    async def transact[T](self, step: Step[T]) -> T:
        """Runs a step that joins the journal with other tables (see `GroupCommit.submit`)."""
        return await self._group.submit(step)

    async def transact_in[I, T](self, batch: Batch[I, T], item: I) -> T:
        """The same for one that takes many items at once (see `GroupCommit.submit_to`)."""
        return await self._group.submit_to(batch, item)

    def settled(self, job_id: str) -> None:
        """A relay has the result, and nothing is owed. Nobody waits for this row: a crash publishes once more."""
        self._group.execute_later(rows.SETTLE, (job_id,))

    def undelivered(self, job_id: str) -> None:
        """No relay had the result before it expired. Nobody waits for this row either."""
        self._group.execute_later(rows.GIVE_UP, (job_id,))

    def told(self, job_id: str) -> None:
        """A relay has the error of a job that has ended, or it has expired. Nobody waits for this row either."""
        self._group.execute_later(rows.TELL, (job_id,))

    async def may_run(self, job_id: str) -> None:
        """A job that waited for its payment need not any more."""
        await self.transact(lambda tx: rows.move(tx, job_id, JobState.AWAITING_FUNDS, JobState.QUEUED))

    async def begun(self, job_id: str) -> None:
        """Pieces of an answer go out from now on: after a crash none of another may."""
        await self._group.execute(rows.BEGIN, (job_id,))

    def sent(self, job_id: str, sent: Usage) -> None:
        """Relays have so much of an answer that is being made. It goes along with the next write, within half a
        second: what a crash loses of it costs its customer nothing."""
        self._group.execute_later(rows.SENT, (sent.prompt_tokens, sent.completion_tokens, job_id))

    async def ended(
        self, job_id: str, state: JobState, *, code: str, finished_at: float, word: Event | None = None
    ) -> None:
        """A job ends without a result. `word` is pending until its customer is told of that."""
        await self._group.execute(rows.END, rows.ending(job_id, state, code, finished_at, word))

    async def pending(self) -> AsyncIterator[Pending]:
        """What a crash left, oldest first; one at a time, since all of it may be more than memory holds."""
        for left in await self._database.fetch_all(rows.LEFT):
            row = await self._database.fetch_one(rows.PENDING, (left["id"],))
            if row is not None and (pending := rows.pending(row)) is not None:
                yield pending

    async def request(self, job_id: str) -> Event:
        """What a job asks for that has not ended. Raises `LookupError` for any other."""
        row = await self._database.fetch_one("SELECT request FROM job WHERE id = ?", (job_id,))
        if row is None or row["request"] is None:
            raise LookupError(f"the journal has no request of job {job_id}")
        return loads_event(row["request"])

    async def known(self, job_ids: Iterable[str]) -> dict[str, Event | None]:
        """Which of these jobs were taken on before, each with its result if there is one still."""
        ids = list(job_ids)
        marks = ",".join("?" * len(ids))
        found = await self._database.fetch_all(f"SELECT id, result FROM job WHERE id IN ({marks})", ids)  # noqa: S608
        return {row["id"]: None if row["result"] is None else loads_event(row["result"]) for row in found}

    async def refuse(self, refusals: Sequence[tuple[str, str, float]]) -> None:
        """Requests are refused: their ids, with which codes, and when (Unix seconds)."""

        async def step(tx: Transaction) -> None:
            await tx.execute_many("INSERT OR REPLACE INTO refused_request VALUES (?, ?, ?)", refusals)

        await self.transact(step)

    async def refused(self, *, since: float) -> list[sqlite3.Row]:
        """`id`, `code` and `said_at` of requests that were refused since then (Unix seconds), the oldest first."""
        return await self._database.fetch_all(
            "SELECT id, code, said_at FROM refused_request WHERE said_at > ? ORDER BY said_at", (since,)
        )

    async def forget(self, *, results_before: float, rows_before: float, refusals_before: float) -> None:
        """Drops contents of jobs whose deadline lies before the first time, whole rows before the second, and
        refusals before the third."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(rows.FORGET_RESULTS, (int(results_before),))
            connection.execute(rows.FORGET, (rows_before,))
            connection.execute("DELETE FROM refused_request WHERE said_at < ?", (refusals_before,))

        # On the database's own thread: there may be thousands, and everybody waits for the loop's.
        await self._database.write(work)

    async def rows(self, *, limit: int = 50, state: JobState | None = None) -> list[Row]:
        """The newest jobs."""
        found = await self._database.fetch_all(rows.NEWEST, (state, limit))
        return [rows.newest(row) for row in found]

    async def customers(self, most: int) -> list[str]:
        """Whose the newest jobs are, the latest last."""
        found = await self._database.fetch_all("SELECT customer FROM job ORDER BY received_at DESC LIMIT ?", (most,))
        return [row["customer"] for row in reversed(found)]

    async def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        found = await self._database.fetch_all("SELECT state, count(*) AS n FROM job GROUP BY state")
        return {row["state"]: row["n"] for row in found}

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
