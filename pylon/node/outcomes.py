"""The outcomes of a run as JSON: rows, which clients turn back into outcomes, and a summary."""

import asyncio
import statistics
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import batched
from typing import Any

from pylon.jobs.codes import ErrorCode
from pylon.node.calls.params import AT_ONCE
from pylon.nostr.bech32 import nip19
from pylon.swarm.dispatch.messages import Failure
from pylon.swarm.job import Answer, JobFailed, Outcome

_CHECKS = frozenset({"compared", "rescored", "majority"})
# Cached, because many rows name the same few keys.
key_of = lru_cache(maxsize=16_384)(nip19.parse_public_key)


def row_of(index: int, outcome: Outcome) -> dict[str, Any]:
    """An outcome as a row, with its place `index`. It has the fields of `Answer`, with `paid_msat` for its cost and
    `provider` as npub, and `error` null. A failed job has `text` null and `error`: `reason`, `code`, `message`,
    `hint`."""
    if isinstance(outcome, Answer):
        row = outcome.row()
        paid_msat = row.pop("paid")
        return {
            "index": index,
            **row,
            "provider": nip19.npub(outcome.provider),
            "paid_msat": paid_msat,
            "error": None,
        }
    error = {
        "reason": outcome.reason.value,
        "code": outcome.code.value if outcome.code else None,
        "message": str(outcome),
        "hint": outcome.hint,
    }
    return {"index": index, "text": None, "attempts": outcome.attempts, "error": error}


def outcome_of(row: Mapping[str, Any]) -> Outcome:
    """The outcome of a row of `row_of`."""
    error = row["error"]
    if error is not None:
        code = None if error["code"] is None else ErrorCode(error["code"])
        reason = Failure(error["reason"])
        return JobFailed(
            error["message"], reason=reason, code=code, attempts=row["attempts"], hint=error["hint"]
        )  # fmt: skip
    return Answer.of_row({**row, "provider": key_of(row["provider"]), "paid": row["paid_msat"]})


async def rows_of(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row for each outcome. There may be 100,000, so the event loop gets a turn after every `AT_ONCE` of them."""
    rows: list[dict[str, Any]] = []
    for some in batched(enumerate(outcomes), AT_ONCE):
        rows += [row_of(index, outcome) for index, outcome in some]
        await asyncio.sleep(0)
    return rows


async def summary_of(outcomes: Sequence[Outcome], wall_s: float, msat: int) -> dict[str, Any]:
    """The result of a run but for its rows: counts, costs and latencies, in all and by provider. The run was charged
    `msat` in all and took `wall_s` seconds."""
    by_provider: dict[str, list[Answer]] = {}
    used = checked = 0
    for some in batched(outcomes, AT_ONCE):
        for outcome in some:
            if isinstance(outcome, Answer):
                by_provider.setdefault(outcome.provider, []).append(outcome)
                used += int(outcome.paid)
                checked += not _CHECKS.isdisjoint(outcome.verified)
        await asyncio.sleep(0)
    answers = [answer for some in by_provider.values() for answer in some]
    return {
        "jobs": len(outcomes),
        "answered": len(answers),
        "paid_msat": max(msat, used),
        # The cost of second opinions, and of answers that came too late or failed a check.
        "beside_msat": max(0, msat - used),
        "checked": checked,
        "wall_s": round(wall_s, 3),
        **await asyncio.to_thread(percentiles, (answer.latency_ms for answer in answers)),
        "providers": await asyncio.to_thread(_of_each, by_provider),
    }


def _of_each(by_provider: Mapping[str, Sequence[Answer]]) -> dict[str, Any]:
    return {nip19.npub(provider): _totals(answers) for provider, answers in by_provider.items()}


def _totals(answers: Sequence[Answer]) -> dict[str, Any]:
    return {
        "jobs": len(answers),
        "prompt_tokens": sum(a.usage.prompt_tokens for a in answers if a.usage),
        "completion_tokens": sum(a.usage.completion_tokens for a in answers if a.usage),
        "paid_msat": sum(int(a.paid) for a in answers),
        **percentiles(answer.latency_ms for answer in answers),
    }


def percentiles(latencies: Iterable[int]) -> dict[str, int | None]:
    """The 50th and the 99th percentile of these milliseconds; None if there are none."""
    times = sorted(latencies)
    if len(times) < 2:
        only = times[0] if times else None
        return {"p50_ms": only, "p99_ms": only}
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {"p50_ms": round(cuts[49]), "p99_ms": round(cuts[98])}
