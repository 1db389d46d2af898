"""The reputation of providers on disk. A crash may lose a few seconds of it: no money depends on it."""

from dataclasses import asdict

import orjson

from pylon.clock import BELIEVED_S
from pylon.store.database import Database
from pylon.swarm.checks.reputation import HALF_LIFE_S, REMEMBERED, Reason, Record, Reputation, Seen

FORGOTTEN_S = 6 * HALF_LIFE_S


async def load(database: Database, now: float) -> Reputation:
    """Reads the reputation. Records that have faded are deleted."""
    async with database.transaction() as tx:
        # They grow old by the dates of others. With a date far ahead all would have faded, exclusions with them.
        await tx.execute(
            "DELETE FROM swarm_reputation WHERE at <= (SELECT max(at) FROM swarm_reputation WHERE at <= ?) - ?",
            (now - BELIEVED_S, FORGOTTEN_S),
        )
    rows = await database.fetch_all("SELECT record FROM swarm_reputation ORDER BY at DESC LIMIT ?", (REMEMBERED,))
    return Reputation(_record(row["record"]) for row in rows)


async def save(database: Database, reputation: Reputation) -> None:
    """Writes what has changed since the last call, and deletes what was forgotten. What fails is written next
    time."""
    changed, forgotten = reputation.take_changed(), reputation.take_forgotten()
    if not (changed or forgotten):
        return
    rows = [(record.provider, record.at, orjson.dumps(asdict(record)).decode()) for record in changed]
    try:
        async with database.transaction() as tx:
            await tx.execute_many(
                "INSERT INTO swarm_reputation (provider, at, record) VALUES (?, ?, ?)"
                " ON CONFLICT (provider) DO UPDATE SET at = excluded.at, record = excluded.record",
                rows,
            )
            await tx.execute_many(
                "DELETE FROM swarm_reputation WHERE provider = ?", [(provider,) for provider in forgotten]
            )
    except BaseException:
        reputation.not_written(changed, forgotten)
        raise


def _record(written: str) -> Record:
    row = orjson.loads(written)
    # Homes that were made before have it: nobody is proven by answers that were not checked.
    row.pop("unchecked", None)
    reasons = [Reason(one["at"], Seen(one["seen"]), one["detail"]) for one in row["reasons"]]
    return Record(**{**row, "reasons": reasons})
