"""The customer asks: runs `pylon rlm` as a process, and reads its trajectory afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pylon.bench.local_swarm import LocalSwarm
from pylon.bench.planted_fact import Task
from pylon.inference.models import needle
from pylon.node.outcomes import percentiles
from pylon.rlm.runs import Run
from pylon.rlm.trajectory import Event
from tools.demo.parties import CUSTOMER

# The limits of a run for each piece of text, with all the rounds that map-reduce may take.
SATS_A_PIECE = 5
CALLS_A_PIECE = 10
# The exit status for a partial answer or none, which the demo judges itself.
_NOT_ANSWERED = 5


def pieces(characters: int) -> int:
    """About how many pieces a text of so many characters is cut into."""
    return 1 + characters // (needle.CHUNK_CHARS - needle.OVERLAP_CHARS)


@dataclass(frozen=True, slots=True)
class Asked:
    """One question: the command's `report`, and its run. `right` if the whole answer was the planted fact."""

    report: dict[str, Any]
    run: Run
    right: bool

    @property
    def calls(self) -> list[Event]:
        """The `returned` event of every prompt that went to the swarm."""
        events = list(self.run.events())
        children = {event["call"] for event in events if event["type"] == "submitted" and event["kind"] == "rlm"}
        return [event for event in events if event["type"] == "returned" and event["call"] not in children]

    @property
    def answers(self) -> list[Event]:
        """Those of `calls` with an answer."""
        return [event for event in self.calls if "code" not in event]


async def ask(swarm: LocalSwarm, customer: dict[str, str], task: Task, file: Path, strategy: str) -> Asked:
    """Asks the task's question about its text, which is in `file`. Raises `PylonError`."""
    many = pieces(len(task.text))
    report = await swarm.run(
        "rlm", task.question, "--context", str(file), "--strategy", strategy,
        "--sats", str(SATS_A_PIECE * many), "--calls", str(CALLS_A_PIECE * many),
        env=customer, statuses=(0, _NOT_ANSWERED),
    )  # fmt: skip
    run = Run(swarm.folder / CUSTOMER / "runs" / report["id"])
    return Asked(report, run, report["answer"] == task.value and not report["partial"])


def figures(asked: Asked) -> dict[str, Any]:
    """Counts and times of one run's sub-calls, in total and by provider."""
    answers = asked.answers
    by_provider: dict[str, list[Event]] = {}
    for event in answers:
        by_provider.setdefault(event["provider"], []).append(event)
    return {
        "jobs": len(asked.calls),
        "answered": len(answers),
        "providers": len(by_provider),
        "wall_s": asked.report["wall_s"],
        **_latencies(answers),
        "by_provider": {provider: _totals(some) for provider, some in by_provider.items()},
    }


def _totals(answers: Sequence[Event]) -> dict[str, Any]:
    return {
        "jobs": len(answers),
        "prompt_tokens": sum(event["prompt_tokens"] for event in answers),
        "completion_tokens": sum(event["completion_tokens"] for event in answers),
        "paid_msat": sum(event["msat"] for event in answers),
        **_latencies(answers),
    }


def _latencies(answers: Sequence[Event]) -> dict[str, int | None]:
    return percentiles(event["latency_ms"] for event in answers)
