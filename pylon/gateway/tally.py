"""Counts what the gateway has done since it started, for its page and its metrics."""

from collections import Counter
from dataclasses import dataclass, field

from pylon.gateway.budget import Budget
from pylon.gateway.metrics import Histogram, Sample, counter, gauge


@dataclass(slots=True)
class Tally:
    """`outcomes` counts requests by `answered`, `cancelled` and the codes of problems."""

    in_flight: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: Histogram = field(
        default_factory=lambda: Histogram(
            "pylon_gateway_request_seconds", "Seconds from request to complete answer, of answered requests."
        )
    )

    def samples(self, budget: Budget) -> list[Sample]:
        """These counts and the budget's amounts as metrics."""
        outcomes = [((("outcome", name),), float(count)) for name, count in sorted(self.outcomes.items())]
        tokens = [((("kind", "prompt"),), float(self.prompt_tokens))]
        tokens.append(((("kind", "completion"),), float(self.completion_tokens)))
        return [
            Sample("pylon_gateway_requests_total", "counter", "Chat completions requested, by outcome.", outcomes),
            gauge("pylon_gateway_in_flight", "Chat completions in progress.", self.in_flight),
            Sample("pylon_gateway_tokens_total", "counter", "Tokens of answers, as counted by providers.", tokens),
            counter("pylon_gateway_spent_msat", "Charged for this gateway's requests.", budget.spent),
            gauge("pylon_gateway_held_msat", "Reserved for requests in progress.", budget.held),
            gauge("pylon_gateway_open_msat", "May still be charged for requests that have ended.", budget.open),
            gauge("pylon_gateway_budget_msat", "The most this gateway may spend.", budget.limit),
        ]
