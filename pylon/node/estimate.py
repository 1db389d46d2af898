"""Estimates a run without asking anybody: which providers could do it, its cost, and its time."""

import asyncio
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import batched
from typing import Any

from pylon.jobs.announcement import HOUSEHOLD
from pylon.money.accounts.usage import Bounds, quote_bound
from pylon.money.price import FREE
from pylon.node.calls.params import AT_ONCE
from pylon.node.outcomes import row_of
from pylon.swarm.client import SwarmClient
from pylon.swarm.compose import bounds_of, job_of
from pylon.swarm.job import DEFAULT_MAX_TOKENS, JobFailed, JobSpec
from pylon.swarm.providers.listing import Listing
from pylon.swarm.runs.question_checks import unaskable

# Characters per token of prose, roughly.
_CHARS_PER_TOKEN = 4
# The most jobs in `faults`.
_TOLD = 100


async def estimate(client: SwarmClient, specs: Sequence[JobSpec]) -> dict[str, Any]:
    """The estimate of a dry run, as docs/control.md describes it.

    `least_msat`, `usual_msat` and `most_msat` are what the jobs cost if the cheapest, the median and the dearest of
    the able providers takes each. `wall_s` assumes the announced speeds, and answers as long as jobs and models
    allow; None if no provider is able, or none announces its speed.

    `unaskable` counts the jobs that cannot be sent to any provider; no other figure includes them. `faults` says why
    for the first of them. `lack` says why nobody takes the first other job that nobody takes, with a hint; None if
    all jobs are taken.
    """
    faults = await _faults(specs, plain=client.settings.plain)
    whole = [spec for index, spec in enumerate(specs) if index not in faults] if faults else specs
    able = _able(client, whole)
    everybody = {listing.provider: listing for listings in able.values() for listing in listings}
    slots = sum(listing.slots for listing in everybody.values())
    # In a thread: a hundred thousand jobs take a second or two.
    least, usual, most = await asyncio.to_thread(_quotes, able, whole)
    prompts, answers = sum(len(spec.text) // _CHARS_PER_TOKEN for spec in whole), _answer_tokens(able, whole)
    at_once = max(1, min(slots, client.settings.dispatch.width))
    checks = client.settings.checks
    untaken = next((spec for spec in whole if not able[spec.model]), None)
    lack = None if untaken is None else client.lack(untaken)
    return {
        "jobs": len(specs),
        "unaskable": len(faults),
        "faults": [row_of(index, faults[index]) for index in list(faults)[:_TOLD]],
        "providers": len(everybody),
        "lack": None if lack is None else {"message": str(lack), "hint": lack.hint},
        "slots": slots,
        "least_msat": least,
        "usual_msat": usual,
        "most_msat": most,
        "prompt_tokens": prompts,
        "most_completion_tokens": answers,
        "checks": 0 if checks is None else round(checks.share * len(whole)),
        "wall_s": _seconds(list(everybody.values()), prompts, answers, jobs=len(whole), at_once=at_once),
    }


async def _faults(specs: Sequence[JobSpec], *, plain: bool) -> dict[int, JobFailed]:
    """Why jobs cannot be sent to any provider at all, by the job's index."""
    faults: dict[int, JobFailed] = {}
    for some in batched(enumerate(specs), AT_ONCE):
        faults |= {index: failure for index, spec in some if (failure := unaskable(spec, plain=plain))}
        await asyncio.sleep(0)
    return faults


def _able(client: SwarmClient, specs: Sequence[JobSpec]) -> dict[str | None, list[Listing]]:
    """By model, the providers that could take the longest job for it."""
    longest: dict[str | None, JobSpec] = {}
    for spec in specs:
        if spec.model not in longest or len(spec.text) > len(longest[spec.model].text):
            longest[spec.model] = spec
    own = client.circle.own
    mine = [replace(each, own=True, price=FREE) for key in own if (each := client.directory.get(key)) is not None]
    able = {}
    for model, spec in longest.items():
        need = job_of(0, spec, client.settings, client.circle, deadline=0.0).need
        # Machines of another household do not serve us. Our own are free, whatever price they announce to others.
        others = [
            each for each in client.directory.find(need) if each.network != HOUSEHOLD and each.provider not in own
        ]
        able[model] = [*others, *(each for each in mine if not need.why_not(each))]
    return able


def _quotes(able: Mapping[str | None, Sequence[Listing]], specs: Sequence[JobSpec]) -> tuple[int, int, int]:
    """The sums over all jobs, in msat, of the lowest, the median and the highest quote of an able provider."""
    prices = {model: Counter(listing.price for listing in listings) for model, listings in able.items()}
    # Many jobs have the same bounds and many providers the same price, so few pairs of them are left.
    alike: defaultdict[tuple[str | None, Bounds], int] = defaultdict(int)
    for spec in specs:
        alike[spec.model, bounds_of(spec)] += 1
    least = usual = most = 0
    for (model, bounds), jobs in alike.items():
        if quotes := sorted((int(quote_bound(price, bounds)), count) for price, count in prices[model].items()):
            least += jobs * quotes[0][0]
            usual += jobs * _median(quotes)
            most += jobs * quotes[-1][0]
    return least, usual, most


def _median(counted: Sequence[tuple[int, int]]) -> int:
    """The median of sorted values, each with its count; the lower of two in the middle."""
    left = (sum(count for _, count in counted) - 1) // 2
    for value, count in counted:
        if left < count:
            return value
        left -= count
    raise ValueError("there is no median of nothing")


def _answer_tokens(able: Mapping[str | None, Sequence[Listing]], specs: Sequence[JobSpec]) -> int:
    """The most tokens that all answers together can have, by the limits of the jobs and of the providers."""
    longest: dict[str | None, float] = {}
    for model, listings in able.items():
        said = [listing.longest(model) for listing in listings]
        # A provider that names no limit gives as many as are asked for.
        longest[model] = max(said) if said and all(said) else math.inf
    return sum(int(min(spec.max_tokens or DEFAULT_MAX_TOKENS, longest[spec.model])) for spec in specs)


def _seconds(
    listings: Sequence[Listing], prompt_tokens: int, answer_tokens: int, *, jobs: int, at_once: int
) -> float | None:
    """Seconds for `jobs` with these tokens in all, `at_once` at a time; None if no provider's speed is known."""
    each = [
        listing.slots
        * (
            answer_tokens / jobs / listing.tokens_out_per_s
            + (prompt_tokens / jobs / listing.tokens_in_per_s if listing.tokens_in_per_s else 0.0)
        )
        for listing in listings
        if listing.tokens_out_per_s and jobs
    ]
    return round(statistics.median(each) * -(-jobs // at_once), 1) if each else None
