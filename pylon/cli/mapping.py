"""`pylon map`: many prompts out at once, results back in order."""

import asyncio
import shlex
import sys
import time
from array import array
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.constrain import Constrain
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.status import Status

from pylon.cli.ask import MaxTokens, Model, System, Temperature, Timeout, options
from pylon.cli.estimate_rows import estimated
from pylon.cli.output import counted, err, out, table
from pylon.cli.prompts import check_output, print_answers, read_jobs, with_ids, write_file, write_rows
from pylon.cli.running import Json, ended_as_by_ctrl_c, fail, print_json, run
from pylon.cli.waiting import Waiting
from pylon.errors import InterruptError, JobsFailedError, PylonError, UsageError
from pylon.money.msat import Msat, sats_text
from pylon.money.network import Network
from pylon.node.calls.control import Event
from pylon.node.home import open_home
from pylon.node.session import open_node
from pylon.swarm.dispatch.messages import Failure

# Where nobody watches, as in a log, a line so often says how far it is.
_TELL_S = 10.0
# What may end otherwise when it is asked once more; where the budget was too small, with a larger one.
_AGAIN = frozenset(
    {
        Failure.NO_PROVIDER,
        Failure.DEADLINE,
        Failure.UNHEARD,
        Failure.EXHAUSTED,
        Failure.NOT_SENT,
        Failure.BUDGET,
    }
)


def map_(
    file: Annotated[
        Path,
        typer.Argument(
            help=(
                "JSONL with a `prompt` per line, a JSON array, CSV or TSV with a `prompt` column, or "
                "a text file with one prompt per line; - reads standard input."
            )
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help=(
                "Where to write the results: CSV if the name ends in .csv, otherwise JSONL (default: "
                "standard output)."
            ),
        ),
    ] = None,
    system: System = None,
    model: Model = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    timeout: Timeout = None,
    votes: Annotated[
        int, typer.Option(min=1, max=9, help="Ask up to this many providers per prompt, until a majority agrees.")
    ] = 1,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0, help="Seconds for the whole run. With --resume, 0 prints the answers so far and asks no one."
        ),
    ] = None,
    sats: Annotated[
        int | None, typer.Option(min=0, max=2_100_000_000_000_000, help="The most the run may cost, in sats.")
    ] = None,
    pin_weights: Annotated[
        bool, typer.Option("--pin-weights", help="Take all answers from one set of weights, the most widely served.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the last map of these prompts and options. Nothing is paid twice."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Estimate jobs, cost and time, and send nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Send many prompts at once, and print the results in order, one JSON object per line.

    Each line has the prompt's `index`, and either `text`, `provider`, `model`, `sha256`, `usage`, `verified` and
    timings, or an `error`. --json prints one object with all results and a summary instead.

    If a run is interrupted, run it again with --resume and the same prompts and options within seven days.
    --resume never starts a new run. --resume --seconds 0 prints the answers so far, even while the run goes on.

    Each prompt is sent as it is. To ask about a text, put the question first and the text after it, in the same
    prompt. Lines of JSONL and objects of a JSON array may set `system`, `model`, `max_tokens` and the other
    options; a JSON array may also hold plain strings. In CSV and TSV only the column `prompt` is read. Blank
    lines are skipped. An empty prompt in a table or in JSON fails without being asked.

    In JSONL and JSON, `messages` may take the place of `prompt`: a chat, as a list of objects with `role` and
    `content`. An `id`, a string or a number, is copied into the result.

    CSV results have the columns index, id, text, provider, model, sha256, paid_msat, attempts, verified and error,
    in the order of the prompts. Answers are not escaped: open the text column as text, or a spreadsheet takes an
    answer that begins with =, +, - or @ for a formula.

    A terminal shows one line per result, its index and its answer, cut at the edge. Use -o or a pipe to get
    everything.
    """
    if seconds == 0 and not resume:
        raise typer.BadParameter(
            "no one can answer in 0 s; 0 is only for --resume, which then prints the answers so far",
            param_hint="--seconds",
        )
    if output is not None:
        check_output(output, file)
    given = options(system, model, max_tokens, temperature) | ({"votes": votes} if votes > 1 else {})
    jobs: list[dict[str, Any]] = []
    ids: dict[int, str | float] = {}
    lines = array("L")
    try:
        with _reading(file, quiet=as_json):
            for line, job in read_jobs(file, given):
                if "id" in job:
                    ids[len(jobs)] = job.pop("id")
                jobs.append(job)
                lines.append(line)
    except UsageError as error:
        fail(error, as_json=as_json)
    if not jobs:
        raise typer.BadParameter("it contains no prompts", param_hint="FILE")
    params = {
        "jobs": jobs,
        "timeout_s": timeout,
        "deadline_s": seconds,
        "budget_msat": None if sats is None else int(Msat.from_sats(sats)),
        "pin_weights": pin_weights,
        "journal": True,
        "resume": resume,
        # Whoever takes a run up does not mean to pay for all of it once more.
        "only_kept": resume,
        "dry_run": dry_run,
    }
    run(_dry_run(params, lines, as_json) if dry_run else _map(params, ids, output, as_json), as_json=as_json)


def _reading(file: Path, *, quiet: bool) -> AbstractContextManager[object]:
    what = "standard input" if str(file) == "-" else str(file)
    return Status(f"reading {what} …", console=err) if err.is_terminal and not quiet else nullcontext()


async def _dry_run(params: dict[str, Any], lines: Sequence[int], as_json: bool) -> None:
    found, unit = await _call(params, as_json)
    for fault in found["faults"]:
        fault["line"] = lines[fault["index"]]
    if as_json:
        print_json(found)
        return
    made = table("|estimate", "")
    for row in estimated(found, params["budget_msat"], unit):
        made.add_row(*row)
    out.print(made)
    if found["lack"] is not None:
        err.print(f"{found['lack']['message']}\n  {found['lack']['hint']}", style="dim")


async def _map(params: dict[str, Any], ids: dict[int, str | float], output: Path | None, as_json: bool) -> None:
    told: dict[str, Any] = {}
    try:
        with ended_as_by_ctrl_c():
            result, unit = await _call(params, as_json, told)
    except asyncio.CancelledError:
        fail(_interrupted(told, len(params["jobs"]), resumed=params["resume"]), as_json=as_json)
    result["outcomes"] = with_ids(result["outcomes"], ids)
    try:
        if output is not None:
            write_file(result["outcomes"], output)
        elif not as_json and out.is_terminal:
            print_answers(result["outcomes"])
        elif not as_json:
            write_rows(result["outcomes"], sys.stdout, as_csv=False)
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        hint = "--resume prints the same answers again; nothing is paid twice."
        where = output or "standard output"
        raise PylonError(f"{where} could not be written: {error.strerror}", hint=hint) from error
    if as_json:
        print_json(result)
    failed = result["jobs"] - result["answered"]
    err.print(_summary(result, unit), style="dim")
    if output is None and not as_json and out.is_terminal:
        err.print(
            "Add `--resume -o FILE` to write the complete results to a file; nothing is paid twice.", style="dim"
        )
    if failed:
        fail(JobsFailedError(f"{failed} of {result['jobs']} jobs got no answer", hint=_again(result["outcomes"])))


def _again(outcomes: list[dict[str, Any]]) -> str:
    """What to do about those that failed."""
    reasons = [row["error"]["reason"] for row in outcomes if row["error"]]
    later = sum(reason in _AGAIN for reason in reasons)
    if not later:
        return "Each failed line says why."
    if later == len(reasons):
        return "Each failed line says why. --resume asks only those again."
    return f"Each failed line says why. --resume may still get answers for {later:,} of them."


def _interrupted(told: dict[str, Any], jobs: int, *, resumed: bool) -> InterruptError:
    if not told and not resumed:
        return InterruptError("interrupted before any prompt was sent")
    # A run that was taken up tells what it had before only with what it has now.
    far = _far(told, jobs) if told else "before any more answers arrived"
    again = shlex.join(["pylon", *(each for each in sys.argv[1:] if each != "--resume"), "--resume"])
    hint = f"`{again}` continues from there; nothing is asked or paid twice. Add `--seconds 0`"
    hint += " to print the answers so far without asking anyone."
    return InterruptError(f"interrupted: {far}", hint=hint)


def _far(told: dict[str, Any], jobs: int) -> str:
    """How far a run is, of what its node told last."""
    answered = told["done"] - told["failed"]
    failed = f", {told['failed']:,} failed" if told["failed"] else ""
    return f"{answered:,} of {jobs:,} answered{failed}, {sats_text(told['paid_msat'], told['unit'])} spent"


async def _call(
    params: dict[str, Any], as_json: bool, told: dict[str, Any] | None = None
) -> tuple[dict[str, Any], str]:
    """What came of it, and what its amounts are called. `told` holds what the node told last of how far it is."""
    home, config = open_home()
    told = {} if told is None else told
    quiet = as_json or params["dry_run"]
    plain = _Plain(len(params["jobs"]), quiet=quiet or err.is_terminal)
    unit = Network(config.network).unit
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    result: dict[str, Any] = {}
    with _Bar(*columns, console=err, disable=quiet or not err.is_terminal) as progress:
        task = progress.add_task("asking", total=len(params["jobs"]))
        async with open_node(home, config) as node, Waiting(quiet=as_json) as waiting:
            async for answer in node.call("map", params):
                if isinstance(answer, Event):
                    waiting.tell(answer.data)
                    if "done" not in answer.data:
                        # The run has not begun.
                        continue
                    told.update(answer.data, unit=unit)
                    plain.tell(told)
                    rate = progress.tasks[0].finished_speed or progress.tasks[0].speed or 0.0
                    says = f"{rate:.0f}/s, {sats_text(told['paid_msat'], unit)}, {told['in_flight']} in flight"
                    providers = counted(told["providers"], "provider")
                    progress.update(task, completed=told["done"], description=f"{says}, {providers}")
                else:
                    result = answer.data
    return result, unit


class _Bar(Progress):
    """Ends before the terminal's edge: the `^C` that is echoed behind it would wrap there, and leave it twice."""

    def get_renderable(self) -> RenderableType:
        return Constrain(super().get_renderable(), err.width - len("^C"))


class _Plain:
    """How far a run is, as lines for a log."""

    def __init__(self, jobs: int, *, quiet: bool) -> None:
        self._jobs = jobs
        self._quiet = quiet
        self._due = time.monotonic() + _TELL_S

    def tell(self, told: dict[str, Any]) -> None:
        """The node says how far it is; a line at most every ten seconds."""
        now = time.monotonic()
        if not self._quiet and now >= self._due:
            self._due = now + _TELL_S
            err.print(f"{_far(told, self._jobs)}, {told['in_flight']} in flight")


def _beside(msat: int, unit: str) -> str:
    return f" ({sats_text(msat, unit)} of it for checks and unused answers)" if msat else ""


def _summary(result: dict[str, Any], unit: str) -> str:
    # Of a resumed run this process saw only a part.
    whole = result["wall_s"] and not result["resumed"]
    rate = f"{result['answered'] / result['wall_s']:.1f}/s" if whole else ""
    paid = f"{sats_text(result['paid_msat'], unit)}{_beside(result['beside_msat'], unit)}"
    # Of what nobody answered there is no middle.
    times = f"p50 {result['p50_ms']} ms, p99 {result['p99_ms']} ms" if result["answered"] else ""
    figures = ", ".join(filter(None, (rate, times)))
    return (
        f"{result['answered']} of {result['jobs']} answered by {counted(len(result['providers']), 'provider')}"
        f" in {result['wall_s']:.1f} s{' since it was resumed' if result['resumed'] else ''}"
        f"{f' ({figures})' if figures else ''},"
        f" {result['checked']} checked, {paid}"
    )
