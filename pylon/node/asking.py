"""The customer's calls: jobs and outcomes as JSON on one side, the swarm's values on the other."""

import asyncio
import dataclasses
import statistics
import time
from collections.abc import Sequence
from typing import Any

from pylon.config import CustomerSection
from pylon.errors import UsageError
from pylon.node.control import Answers, Event, Result
from pylon.nostr import nip19
from pylon.nostr.pool import RelayPool
from pylon.swarm.client import SwarmClient
from pylon.swarm.job import Answer, JobSpec, Outcome, Progress
from pylon.swarm.listing import Listing

# How often a run says how far it is; more would cost more than it tells.
REPORT_S = 0.1

_FIELDS = {field.name for field in dataclasses.fields(JobSpec)}


async def ask_all(client: SwarmClient, pool: RelayPool, settings: CustomerSection, params: dict[str, Any]) -> Answers:
    """The `map` call: `jobs`, each with a `prompt` and any other field of `JobSpec`, and perhaps `timeout_s`.

    Events tell `done`, `in_flight` and `providers`; the result holds every outcome in order and their summary. With
    `stream`, events bring the `outcomes` as they come, and the result leaves them out. Raises `UsageError` for a job
    that is not one, `UnreachableError` when no relay is there, or nobody who could take any.
    """
    timeout = float(params.get("timeout_s") or settings.timeout_s)
    specs = [_spec(job, timeout) for job in params.get("jobs") or ()]
    await pool.wait_open(settings.patience_s)
    # Whoever asks the first provider it hears of gives all its jobs to that one.
    await client.caught_up(settings.patience_s)
    latest = Progress(len(specs), 0, 0, 0)
    fresh: list[dict[str, Any]] = []
    came = asyncio.Event()

    def outcome_came(index: int, outcome: Outcome) -> None:
        fresh.append(_outcome(index, outcome))
        came.set()

    def progress(now: Progress) -> None:
        nonlocal latest
        latest = now

    started = time.monotonic()
    stream = params.get("stream") is True
    run = asyncio.create_task(client.map(specs, on_progress=progress, on_outcome=outcome_came if stream else None))
    run.add_done_callback(lambda _: came.set())
    try:
        while not run.done() or fresh:
            if stream:
                await came.wait()
                came.clear()
            else:
                await asyncio.wait({run}, timeout=REPORT_S)
            done = latest.answered + latest.failed
            event: dict[str, Any] = {"done": done, "in_flight": latest.in_flight, "providers": len(client.directory)}
            if fresh:
                event["outcomes"], fresh = fresh, []
            yield Event(event)
        outcomes = await run
    finally:
        run.cancel()
    summary = _summary(outcomes, time.monotonic() - started)
    if stream:
        del summary["outcomes"]
    yield Result(summary)


async def providers(client: SwarmClient, params: dict[str, Any]) -> dict[str, Any]:
    """The `providers` call: who is alive after listening for `wait_s` seconds, perhaps those with a `model` only."""
    wanted = params.get("model")
    wait_s = float(params.get("wait_s", 2.0))
    await client.caught_up(wait_s)
    if not len(client.directory):
        await asyncio.sleep(wait_s)
    rows = [_listing(listing) for listing in client.directory if wanted is None or listing.model(wanted)]
    return {"providers": rows, "heard_of": client.directory.known, "bid_msat": int(client.settings.bid)}


def _spec(job: object, timeout: float) -> JobSpec:
    if not isinstance(job, dict) or not isinstance(job.get("prompt", ""), str):
        raise UsageError("every job is an object with a prompt")
    unknown = set(job) - _FIELDS - {"index", "id"}
    if unknown:
        raise UsageError(
            f"jobs have no field {', '.join(sorted(map(repr, unknown)))}",
            hint=f"They may have {', '.join(sorted(_FIELDS))}.",
        )
    fields = {name: value for name, value in job.items() if name in _FIELDS and value is not None}
    if "messages" in fields:
        try:
            fields["messages"] = tuple((str(m["role"]), str(m["content"])) for m in fields["messages"])
        except (TypeError, KeyError) as error:
            raise UsageError("messages are objects with a role and a content") from error
    if "stop" in fields:
        stop = fields["stop"]
        fields["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
    return JobSpec(**{"timeout": timeout, **fields})


def _summary(outcomes: Sequence[Outcome], wall_s: float) -> dict[str, Any]:
    answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
    by_provider: dict[str, list[Answer]] = {}
    for answer in answers:
        by_provider.setdefault(answer.provider, []).append(answer)
    return {
        "jobs": len(outcomes),
        "answered": len(answers),
        "wall_s": round(wall_s, 3),
        **_percentiles(answers),
        "providers": {provider: _totals(some) for provider, some in by_provider.items()},
        "outcomes": [_outcome(index, outcome) for index, outcome in enumerate(outcomes)],
    }


def _totals(answers: Sequence[Answer]) -> dict[str, Any]:
    return {
        "jobs": len(answers),
        "prompt_tokens": sum(a.usage.prompt_tokens for a in answers if a.usage),
        "completion_tokens": sum(a.usage.completion_tokens for a in answers if a.usage),
        "paid_msat": sum(int(a.paid) for a in answers),
        **_percentiles(answers),
    }


def _percentiles(answers: Sequence[Answer]) -> dict[str, int | None]:
    times = sorted(answer.latency_ms for answer in answers)
    if len(times) < 2:
        only = times[0] if times else None
        return {"p50_ms": only, "p99_ms": only}
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {"p50_ms": round(cuts[49]), "p99_ms": round(cuts[98])}


def _outcome(index: int, outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Answer):
        row = dataclasses.asdict(outcome)
        row["paid_msat"] = int(row.pop("paid"))
        return {"index": index, **row, "error": None}
    error = {
        "reason": outcome.reason.value,
        "code": outcome.code.value if outcome.code else None,
        "message": str(outcome),
        "hint": outcome.hint,
    }
    return {"index": index, "text": None, "attempts": outcome.attempts, "error": error}


def _listing(listing: Listing) -> dict[str, Any]:
    state = "loading" if listing.loading else f"paused ({listing.paused})" if listing.paused else "ready"
    price = listing.price
    return {
        "npub": nip19.npub(listing.provider),
        "name": listing.name,
        "models": [model.id for model in listing.models],
        "weights": [model.sha256 for model in listing.models],
        "contexts": [model.context for model in listing.models],
        "kinds": sorted(listing.kinds),
        "slots": listing.slots,
        "slots_free": listing.slots_free,
        "queue_s": listing.queue_s,
        "tokens_in_per_s": listing.tokens_in_per_s,
        "tokens_out_per_s": listing.tokens_out_per_s,
        "price_msat": [int(price.base_msat), int(price.in_msat_per_1k), int(price.out_msat_per_1k)],
        "network": listing.network,
        "plain": listing.plain,
        "state": state,
        "expires_at": listing.expires_at,
    }
