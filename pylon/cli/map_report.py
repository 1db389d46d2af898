"""What `pylon map` says of a run: progress while it goes on, and a summary at its end."""

import time
from types import TracebackType
from typing import Any, Self

from rich.console import RenderableType
from rich.constrain import Constrain
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pylon.cli.output import err, figure
from pylon.money.msat import sats_text
from pylon.swarm.dispatch.messages import RETRYABLE
from pylon.text import counted

# How often a log gets a line of progress, in seconds.
_LINE_EVERY_S = 10.0


class MapProgress:
    """Shows how far a run of so many `jobs` is: a bar on a terminal, lines in a log, nothing when `quiet`.

    A context manager: the bar stays on the screen until it is left. `unit` is the unit of money (`Network.unit`).
    """

    def __init__(self, jobs: int, unit: str, *, quiet: bool) -> None:
        self.unit = unit
        # How far the run is, in words; empty until the node has reported any progress.
        self.so_far = ""
        self._jobs = jobs
        self._prints_lines = not quiet and not err.is_terminal
        self._line_due = time.monotonic() + _LINE_EVERY_S
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = _Bar(*columns, console=err, disable=quiet or not err.is_terminal)
        self._task = self._bar.add_task("asking", total=jobs)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, event: dict[str, Any]) -> None:
        """Takes an event of the node's `map` call."""
        if "done" not in event:
            # The run has not begun: its providers are still loading their models.
            return
        paid = sats_text(event["paid_msat"], self.unit)
        failed = f", {event['failed']:,} failed" if event["failed"] else ""
        self.so_far = f"{event['done'] - event['failed']:,} of {self._jobs:,} answered{failed}, {paid} spent"
        self._print_line(event["in_flight"])
        task = self._bar.tasks[0]
        rate = task.finished_speed or task.speed or 0.0
        in_flight, providers = f"{event['in_flight']:,} in flight", counted(event["providers"], "provider")
        says = f"{figure(rate)}/s, {paid}, {in_flight}, {providers}"
        self._bar.update(self._task, completed=event["done"], description=says)

    def _print_line(self, in_flight: int) -> None:
        now = time.monotonic()
        if self._prints_lines and now >= self._line_due:
            self._line_due = now + _LINE_EVERY_S
            err.print(f"{self.so_far}, {in_flight:,} in flight")


class _Bar(Progress):
    """Ends before the terminal's edge: the `^C` that is echoed behind it would wrap there, and leave it twice."""

    def get_renderable(self) -> RenderableType:
        return Constrain(super().get_renderable(), err.width - len("^C"))


def summary(result: dict[str, Any], unit: str) -> str:
    """One line on a run that has ended. `result` is what the `map` call returned."""
    # A resumed run's time is that of its last part only, so its answers cannot be divided by it.
    whole = result["wall_s"] and not result["resumed"]
    rate = f"{result['answered'] / result['wall_s']:.1f}/s" if whole else ""
    times = f"p50 {result['p50_ms']} ms, p99 {result['p99_ms']} ms" if result["answered"] else ""
    figures = ", ".join(filter(None, (rate, times)))
    beside = result["beside_msat"]
    extra = f" ({sats_text(beside, unit)} of it for checks and unused answers)" if beside else ""
    return (
        f"{result['answered']} of {result['jobs']} answered by {counted(len(result['providers']), 'provider')}"
        f" in {result['wall_s']:.1f} s{' since it was resumed' if result['resumed'] else ''}"
        f"{f' ({figures})' if figures else ''},"
        f" {result['checked']} checked, {sats_text(result['paid_msat'], unit)}{extra}"
    )


def retry_hint(outcomes: list[dict[str, Any]]) -> str:
    """What to do about the jobs that failed."""
    reasons = [row["error"]["reason"] for row in outcomes if row["error"]]
    later = sum(reason in RETRYABLE for reason in reasons)
    if not later:
        return "Each failed line says why."
    if later == len(reasons):
        return "Each failed line says why. --resume asks only those again."
    return f"Each failed line says why. --resume may still get answers for {later:,} of them."
