"""How far a run is, and what it came to, from its events as they are written. Pure."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pylon.money.msat import sats_text
from pylon.rlm.trajectory import Event

# Of calls whose run or cell was ended.
CANCELLED = "cancelled"
# Why an answer ended that is not whole.
_NOT_WHOLE = {"length", "size", "partial"}


@dataclass(slots=True)
class Tally:
    """Counts of a run; `loops` have begun.

    Of what its code asked, `sent` went out, `refused` came back without (over the budget, or their cell was ended),
    `repeated` share the outcome of an equal one. Of those that went out, `back` have returned, `failed` of them
    without an answer and `cancelled` since their run or cell was ended; of the answers `truncated` were cut off, or
    are all that a loop came to before it had to end. `failures` counts codes, of what was refused too.
    """

    turns: int = 0
    loops: int = 0
    sent: int = 0
    back: int = 0
    refused: int = 0
    repeated: int = 0
    failed: int = 0
    cancelled: int = 0
    truncated: int = 0
    root_tokens: int = 0
    sub_tokens: int = 0
    msat: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    providers: set[str] = field(default_factory=set)
    models: set[str] = field(default_factory=set)
    out: set[str] = field(default_factory=set)

    def add(self, event: Event) -> None:
        """Takes an event in. What was spent before a run was taken up stands in its first one, and not in those that
        it has from then."""
        recorded = event.get("recorded", False)
        match event["type"]:
            case "run" if event.get("before"):
                self._carry(event["before"])
            case "loop":
                self.loops += 1
            case "turn" if not recorded:
                self.turns += 1
                self.msat += event["msat"]
                self.root_tokens += event["prompt_tokens"] + event["completion_tokens"]
            case "charged":
                self.msat += event["msat"]
            case "submitted":
                self.sent += not recorded
                self.out.add(event["call"])
            case "repeated":
                self.repeated += 1
            case "returned":
                self._came(event)

    def _carry(self, before: dict[str, Any]) -> None:
        spent = before["spent"]
        self.msat += spent["msat"]
        self.sent += spent["calls"]
        self.turns += spent["turns"]
        self.root_tokens += before["root_tokens"]
        self.sub_tokens += before["sub_tokens"]

    def _came(self, event: Event) -> None:
        went_out = event["call"] in self.out
        self.out.discard(event["call"])
        self.back += went_out
        self.refused += not went_out
        if "code" in event:
            self.failures[event["code"]] += 1
            if event["code"] == CANCELLED:
                self.cancelled += went_out
            else:
                self.failed += went_out
            return
        if not event.get("recorded"):
            self.msat += event["msat"]
            self.sub_tokens += event.get("prompt_tokens", 0) + event.get("completion_tokens", 0)
        self.truncated += event.get("finish") in _NOT_WHOLE
        # The answer of a loop inside this one is its root's.
        if event.get("provider"):
            self.providers.add(event["provider"])
            self.models.add(event["model"])

    @property
    def counts(self) -> dict[str, Any]:
        """For programs. `calls` are those that went out, and so what `spent` has too."""
        return {
            "turns": self.turns,
            "loops": self.loops,
            "asked": self.sent + self.refused + self.repeated,
            "calls": self.sent,
            "refused": self.refused,
            "repeated": self.repeated,
            "failed": self.failed,
            "cancelled": self.cancelled,
            "failures": dict(sorted(self.failures.items())),
            "truncated": self.truncated,
            "providers": sorted(self.providers),
            "models": sorted(self.models),
            "root_tokens": self.root_tokens,
            "sub_tokens": self.sub_tokens,
            "sats": self.msat / 1_000,
            "msat": self.msat,
        }

    def line(self, unit: str) -> str:
        """For people; `unit` is of the money (`Network.unit`)."""
        failed = f" ({self.failed:,} failed)" if self.failed else ""
        back = f"{self.back:,} sub-calls back{failed}"
        return f"turn {self.turns}, {len(self.out):,} in flight, {back}, {sats_text(self.msat, unit)}"
