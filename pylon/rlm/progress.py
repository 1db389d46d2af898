"""Counts what a run has done and spent, from its events. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pylon.money.msat import sats_text
from pylon.nostr.bech32.nip19 import shown_key
from pylon.rlm.trajectory import Event
from pylon.text import counted

# The code of calls whose run or cell was ended.
CANCELLED = "cancelled"
# Values of `finish` for answers that are incomplete.
_NOT_WHOLE = {"length", "size", "partial"}


def told_spent(spent: Mapping[str, int]) -> dict[str, int]:
    """What a record has as `spent`, by the names that commands print."""
    return {"paid_msat" if name == "msat" else name: value for name, value in spent.items()}


@dataclass(slots=True)
class Tally:
    """The counts of a run. `turns` are replies of the root; `loops` are those that have begun.

    Of the calls that its code made, `sent` were sent, `refused` were not (over the budget, or their cell was ended),
    and `repeated` share the outcome of an equal one. Of those sent, `back` have returned: `failed` without an answer,
    `cancelled` because their run or cell was ended. Of the answers, `truncated` were cut off or are the partial
    result of a child loop. `failures` counts every error code, those of refused calls included. `out` are the names
    of the calls in flight.
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
        """Counts an event. In a resumed run what was spent before is counted from the `run` event, and not from the
        events that were taken over."""
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
            # As in the budget, and not as a provider reports them, who may name any number.
            self.sub_tokens += event.get("tokens", 0)
        self.truncated += event.get("finish") in _NOT_WHOLE
        # The answer of a child loop has no provider.
        if event.get("provider"):
            self.providers.add(event["provider"])
            self.models.add(event["model"])

    @property
    def counts(self) -> dict[str, Any]:
        """The counts as `pylon rlm --json` prints them. `calls` are those that were sent, as in `spent`."""
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
            "providers": sorted(map(shown_key, self.providers)),
            "models": sorted(self.models),
            "root_tokens": self.root_tokens,
            "sub_tokens": self.sub_tokens,
            "paid_msat": self.msat,
        }

    def line(self, unit: str) -> str:
        """One line for people; `unit` is the unit of money (`Network.unit`)."""
        failed = f" ({self.failed:,} failed)" if self.failed else ""
        back = f"{counted(self.back, 'sub-call')} back{failed}"
        return f"turn {self.turns}, {len(self.out):,} in flight, {back}, {sats_text(self.msat, unit)}"
