"""What work earned, what was done for free, and the electricity it took: `pylon earnings`.

Pure but for `earnings`, which reads the ledger and the journal.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pylon.errors import UsageError
from pylon.money.books import electricity, report
from pylon.money.books import store as ledger_store
from pylon.money.books.electricity import Ran, Tariff
from pylon.money.books.ledger import Kind
from pylon.money.books.report import By, Line
from pylon.money.network import Network
from pylon.node.calls.params import number, text
from pylon.nostr.bech32 import nip19
from pylon.provider.rows import JobState
from pylon.store.database import Database

_BY = (By.CUSTOMER, By.DAY, By.MODEL)
# The states of jobs that have a result.
_SERVED = frozenset({JobState.SIGNED, JobState.SETTLED, JobState.UNDELIVERED})


@dataclass(slots=True)
class Work:
    """The work of a group of jobs: seconds of computing, and the number and size of the free ones."""

    seconds: float = 0.0
    free_jobs: int = 0
    free_prompt_tokens: int = 0
    free_completion_tokens: int = 0


async def earnings(database: Database, network: Network, tariff: Tariff, params: dict[str, Any]) -> dict[str, Any]:
    """The `earnings` call: what customers were charged `since` a Unix time, grouped `by` day, customer or model, and
    what all work took, free jobs included. Raises `UsageError`."""
    name = text(params, "by", "") or By.DAY.value
    if name not in _BY:
        raise UsageError(f"earnings cannot be grouped by {name!r}", hint=f"Choose one of: {', '.join(_BY)}.")
    # A number of days that is larger than today's date gives a negative time.
    since = number(params, "since", 0.0, low=-math.inf)
    charges = await ledger_store.entries(database, kinds=(Kind.CHARGED,))
    jobs = await database.fetch_all(
        "SELECT id, model, customer, state, finished_at, run_ms, prompt_tokens, completion_tokens FROM job"
        " WHERE finished_at IS NOT NULL"
    )
    within = [entry for entry in charges if entry.at >= since]
    lines = report.earnings(within, By(name), model_of={row["id"]: row["model"] for row in jobs})
    late = [dict(row) for row in jobs if row["finished_at"] >= since]
    worked = work_by_group(late, frozenset(entry.reference for entry in charges), By(name))
    lines += [Line(group, 0, 0) for group in sorted(worked.keys() - {line.group for line in lines})]
    if name == By.DAY:
        lines.sort(key=lambda line: line.group)
    # Play money is worth nothing.
    per_bitcoin = tariff.per_bitcoin if network.is_live else 0.0
    tariff = Tariff(tariff.watts, tariff.price_per_kwh, tariff.currency, per_bitcoin)
    total = Line("all", sum(line.count for line in lines), sum(line.msat for line in lines))
    return {
        "network": network.value,
        "unit": network.unit,
        "by": name,
        "currency": tariff.currency,
        "total": _row(total, sum_of(worked.values()), tariff),
        "lines": [_row(line, worked.get(line.group, Work()), tariff, By(name)) for line in lines],
    }


def work_by_group(jobs: Iterable[Mapping[str, Any]], charged: frozenset[str], by: By) -> dict[str, Work]:
    """The work of these ended jobs (rows of the journal), by group. `charged` holds the ids of charged jobs.

    A job that ended without a result took time, but is not counted as free. Groups without time and without free jobs
    are left out.
    """
    ended = list(jobs)
    ran = [Ran(row["id"], row["finished_at"], row["run_ms"] / 1_000) for row in ended if row["run_ms"]]
    shares = electricity.shares(ran)
    groups: defaultdict[str, Work] = defaultdict(Work)
    for row in ended:
        free = row["state"] in _SERVED and row["id"] not in charged
        if not free and row["id"] not in shares:
            continue
        group = groups[report.day(row["finished_at"]) if by is By.DAY else row[by.value]]
        group.seconds += shares.get(row["id"], 0.0)
        if free:
            group.free_jobs += 1
            group.free_prompt_tokens += row["prompt_tokens"]
            group.free_completion_tokens += row["completion_tokens"]
    return dict(groups)


def sum_of(groups: Iterable[Work]) -> Work:
    """The sum of several groups."""
    total = Work()
    for group in groups:
        total.seconds += group.seconds
        total.free_jobs += group.free_jobs
        total.free_prompt_tokens += group.free_prompt_tokens
        total.free_completion_tokens += group.free_completion_tokens
    return total


def _row(line: Line, worked: Work, tariff: Tariff, by: By | None = None) -> dict[str, Any]:
    seconds = worked.seconds
    figures = {"kwh": tariff.kwh(seconds), "electricity": tariff.cost(seconds), "worth": tariff.worth(line.msat)}
    return {
        "group": nip19.shown_key(line.group) if by is By.CUSTOMER else line.group,
        "paid_jobs": line.count,
        "earned_msat": line.msat,
        "free_jobs": worked.free_jobs,
        "free_prompt_tokens": worked.free_prompt_tokens,
        "free_completion_tokens": worked.free_completion_tokens,
        "work_s": round(seconds, 3),
        **{name: None if value is None else round(value, 6) for name, value in figures.items()},
    }
