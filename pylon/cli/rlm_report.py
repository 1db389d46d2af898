"""What `pylon rlm` prints of a run: progress while it goes on, and at its end the answer and what was spent."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from rich.status import Status

from pylon.cli.output import err
from pylon.cli.running import fail, print_json, print_text
from pylon.errors import InterruptError, JobsFailedError, error_row
from pylon.money.msat import sats_text
from pylon.rlm import runs
from pylon.rlm.loop_state import in_words
from pylon.rlm.progress import Tally
from pylon.rlm.trajectory import Event
from pylon.text import counted

# Between two lines of progress in a log.
_TELL_S = 10.0


def tell(text: str) -> None:
    """Prints a remark for people, on standard error."""
    err.print(text, style="dim")


@contextmanager
def progress(unit: str, as_json: bool) -> Iterator[Callable[[Event, Tally], None]]:
    """A listener for a run's events that keeps a line of progress on the terminal; where there is none, it writes one
    every ten seconds for a log. `unit` is the unit of money (`Network.unit`)."""
    if as_json:
        yield lambda _event, _tally: None
        return
    if not err.is_terminal:
        yield _in_lines(unit)
        return
    with Status("starting", console=err) as status:
        yield lambda _event, tally: status.update(tally.line(unit))


def _in_lines(unit: str) -> Callable[[Event, Tally], None]:
    due = time.monotonic() + _TELL_S

    def heard(_event: Event, tally: Tally) -> None:
        nonlocal due
        if (now := time.monotonic()) >= due:
            due = now + _TELL_S
            tell(tally.line(unit))

    return heard


def tell_report(report: dict[str, Any], unit: str, as_json: bool) -> None:
    """Prints a run's answer and what was spent on it; exits with an error if the answer is partial or missing."""
    if as_json:
        print_json(report)
    elif report["answer"] is not None:
        print_text(report["answer"])
    tell(summary(report, unit))
    if report["answer"] is None or report["partial"]:
        what = "there is no answer" if report["answer"] is None else "the answer is partial"
        more = report["reason"] in ("budget", "turns") or "were refused" in report["detail"]
        on = f"After that, `pylon rlm resume {report['id']}` continues the run. " if more else ""
        hint = f"`pylon rlm show {report['id']}` shows what it did."
        hint = f"{report['hint']} {on}{hint}" if report["hint"] else hint
        fail(JobsFailedError(f"{what} ({in_words(report['reason'])}): {report['detail']}", hint=hint))


def tell_interrupted(run: runs.Run, unit: str, as_json: bool) -> NoReturn:
    """Prints what an interrupted run did and spent, with its answer if it had found one, and exits."""
    if not run.begun:
        fail(InterruptError("interrupted before anything was asked"), as_json=as_json)
    report, answer = runs.summary(run), runs.answer_of(run)
    what = "the run was interrupted" if answer is None else "interrupted after the run had found its answer"
    on = f"`pylon rlm resume {run.id}` continues it; " if answer is None else ""
    error = InterruptError(what, hint=f"{on}`pylon rlm show {run.id}` shows what it did.")
    if as_json:
        print_json({**report, "answer": answer, "trajectory": str(run.folder), "error": error_row(error)})
    elif answer is not None:
        print_text(answer)
    tell(summary(report, unit))
    fail(error)


def summary(report: dict[str, Any], unit: str) -> str:
    """A line on what a run did and spent, and one on its models if they were several. Zero counts are left out."""
    parts = [counted(report["turns"], "turn"), counted(report["calls"], "sub-call")]
    parts += [f"{report[name]:,} {word}" for name, word in _COUNTS if report[name]]
    parts += [counted(len(report["providers"]), "provider"), sats_text(report["paid_msat"], unit)]
    if "wall_s" in report:
        parts.append(f"{report['wall_s']:.1f} s")
    models = f"\nanswered by {', '.join(report['models'])}" if len(report["models"]) > 1 else ""
    return f"{', '.join(parts)}; run {report['id']}{models}"


_COUNTS = (
    ("failed", "failed"),
    ("cancelled", "cancelled"),
    ("truncated", "not complete"),
    ("refused", "more refused"),
    ("repeated", "asked before"),
)
