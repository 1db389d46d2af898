"""What a run would take, before anything is sent: who could do it, what it could cost, how long it would be."""

import statistics
from collections.abc import Sequence
from typing import Any

from pylon.money.usage import quote_bound
from pylon.swarm.client import SwarmClient
from pylon.swarm.compose import bounds_of, job_of
from pylon.swarm.job import DEFAULT_MAX_TOKENS, JobSpec
from pylon.swarm.standing import UNKNOWN_S

# About so many characters of prose are a token.
_CHARS_PER_TOKEN = 4


def estimate(client: SwarmClient, specs: Sequence[JobSpec]) -> dict[str, Any]:
    """Bounds and guesses. `most_msat` is what the dearest of these providers could charge for all; `seconds` goes by
    what they say of their speed, with answers as long as they may be."""
    settings = client.settings
    need = job_of(0, max(specs, key=lambda spec: len(spec.text)), settings, deadline=0.0).need
    able = client.directory.find(need)
    quotes = [sorted(int(quote_bound(listing.price, bounds_of(spec))) for listing in able) for spec in specs]
    slots = sum(listing.slots for listing in able)
    return {
        "jobs": len(specs),
        "providers": len(able),
        "slots": slots,
        "least_msat": sum(quote[0] for quote in quotes if quote),
        "usual_msat": sum(int(statistics.median(quote)) for quote in quotes if quote),
        "most_msat": sum(quote[-1] for quote in quotes if quote),
        "prompt_tokens": sum(len(spec.text) // _CHARS_PER_TOKEN for spec in specs),
        "most_completion_tokens": sum(spec.max_tokens or DEFAULT_MAX_TOKENS for spec in specs),
        "checks": 0 if settings.checks is None else round(settings.checks.share * len(specs)),
        "seconds": round(_seconds(client, specs, need_slots=slots), 1) if able else None,
    }


def _seconds(client: SwarmClient, specs: Sequence[JobSpec], *, need_slots: int) -> float:
    rates = [listing.tokens_out_per_s / listing.slots for listing in client.directory if listing.tokens_out_per_s]
    longest = statistics.mean(spec.max_tokens or DEFAULT_MAX_TOKENS for spec in specs)
    each = longest / statistics.median(rates) if rates else UNKNOWN_S
    return each * -(-len(specs) // max(1, min(need_slots, client.settings.dispatch.width)))
