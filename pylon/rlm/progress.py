"""How far a run is, from its events as they are written. Pure."""

from dataclasses import dataclass, field

from pylon.rlm.trajectory import Event


@dataclass(slots=True)
class Tally:
    """Counts of a run. `calls` have returned, `failed` of them without an answer; `loops` have begun."""

    turns: int = 0
    loops: int = 0
    calls: int = 0
    failed: int = 0
    repeated: int = 0
    root_tokens: int = 0
    sub_tokens: int = 0
    msat: int = 0
    providers: set[str] = field(default_factory=set)
    out: set[str] = field(default_factory=set)

    def add(self, event: Event) -> None:
        """Takes an event in."""
        match event["type"]:
            case "loop":
                self.loops += 1
            case "turn":
                self.turns += 1
                self.msat += event["msat"]
                self.root_tokens += event["prompt_tokens"] + event["completion_tokens"]
            case "charged":
                self.msat += event["msat"]
            case "submitted":
                self.out.add(event["call"])
            case "repeated":
                self.repeated += 1
            case "returned":
                self._came(event)

    def _came(self, event: Event) -> None:
        self.out.discard(event["call"])
        self.calls += 1
        if "code" in event:
            self.failed += 1
            return
        self.msat += event["msat"]
        self.sub_tokens += event.get("prompt_tokens", 0) + event.get("completion_tokens", 0)
        if event.get("provider"):
            self.providers.add(event["provider"])

    @property
    def line(self) -> str:
        """For people."""
        failed = f" ({self.failed:,} failed)" if self.failed else ""
        back = f"{self.calls:,} sub-calls back{failed}"
        return f"turn {self.turns}, {len(self.out):,} in flight, {back}, {self.msat / 1000:,.3f} sats"
