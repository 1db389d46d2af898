"""`pylon map`: sends many prompts at once, and prints or writes their results in order."""

import asyncio
import shlex
import sys
from array import array
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.status import Status

from pylon.cli.ask import MaxTokens, Model, System, Temperature, Timeout, options
from pylon.cli.estimate_rows import estimated
from pylon.cli.map_report import MapProgress, retry_hint, summary
from pylon.cli.output import err, out, table
from pylon.cli.prompts import check_output, print_answers, read_jobs, with_ids, write_file, write_rows
from pylon.cli.running import Json, ended_as_by_ctrl_c, fail, print_json, run
from pylon.cli.waiting import map_result
from pylon.errors import InterruptError, JobsFailedError, PylonError, UsageError
from pylon.money.msat import MAX_SATS, Msat
from pylon.money.network import Network
from pylon.node.home import open_home
from pylon.node.session import open_node


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
    sats: Annotated[int | None, typer.Option(min=0, max=MAX_SATS, help="The most the run may cost, in sats.")] = None,
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
    try:
        with _reading(file, quiet=as_json):
            jobs, lines, ids = _read(file, given)
    except UsageError as error:
        fail(error, as_json=as_json)
    if not jobs:
        name = "standard input" if str(file) == "-" else str(file)
        hint = "Write one prompt per line into it; `pylon map --help` names the other forms."
        fail(UsageError(f"{name} contains no prompts", hint=hint), as_json=as_json)
    params = {
        "jobs": jobs,
        "timeout_s": timeout,
        "deadline_s": seconds,
        "budget_msat": None if sats is None else int(Msat.from_sats(sats)),
        "pin_weights": pin_weights,
        "journal": True,
        "resume": resume,
        # --resume never starts a new run: it would pay for all prompts once more.
        "only_kept": resume,
        "dry_run": dry_run,
    }
    run(_dry_run(params, lines, as_json) if dry_run else _map(params, ids, output, as_json), as_json=as_json)


def _reading(file: Path, *, quiet: bool) -> AbstractContextManager[object]:
    what = "standard input" if str(file) == "-" else str(file)
    return Status(f"reading {what} …", console=err) if err.is_terminal and not quiet else nullcontext()


def _read(file: Path, options: dict[str, Any]) -> tuple[list[dict[str, Any]], Sequence[int], dict[int, str | float]]:
    """The file's jobs, the line where each ends, and by its index the `id` of each job that has one.

    Raises `UsageError`.
    """
    jobs: list[dict[str, Any]] = []
    # Smaller than a list: there may be 250,000 lines.
    lines = array("L")
    ids: dict[int, str | float] = {}
    for line, job in read_jobs(file, options):
        if "id" in job:
            ids[len(jobs)] = job.pop("id")
        jobs.append(job)
        lines.append(line)
    return jobs, lines, ids


async def _dry_run(params: dict[str, Any], lines: Sequence[int], as_json: bool) -> None:
    home, config = open_home()
    async with open_node(home, config) as node:
        found = await map_result(node, params, quiet=as_json)
    for fault in found["faults"]:
        fault["line"] = lines[fault["index"]]
    if as_json:
        print_json(found)
    else:
        _print_estimate(found, params["budget_msat"], Network(config.network).unit)


def _print_estimate(found: dict[str, Any], budget_msat: int | None, unit: str) -> None:
    made = table("|estimate", "")
    for row in estimated(found, budget_msat, unit):
        made.add_row(*row)
    out.print(made)
    if found["lack"] is not None:
        err.print(f"{found['lack']['message']}\n  {found['lack']['hint']}", style="dim")


async def _map(params: dict[str, Any], ids: dict[int, str | float], output: Path | None, as_json: bool) -> None:
    home, config = open_home()
    progress = MapProgress(len(params["jobs"]), Network(config.network).unit, quiet=as_json)
    try:
        with ended_as_by_ctrl_c(), progress:
            async with open_node(home, config) as node:
                result = await map_result(node, params, quiet=as_json, hear=progress.update)
    except asyncio.CancelledError:
        fail(_interrupted(progress.so_far, resumed=params["resume"]), as_json=as_json)
    result["outcomes"] = with_ids(result["outcomes"], ids)
    _write_outcomes(result["outcomes"], output, as_json)
    if as_json:
        print_json(result)
    failed = result["jobs"] - result["answered"]
    err.print(summary(result, progress.unit), style="dim")
    if output is None and not as_json and out.is_terminal:
        err.print(
            "Add `--resume -o FILE` to write the complete results to a file; nothing is paid twice.", style="dim"
        )
    if failed:
        hint = retry_hint(result["outcomes"])
        fail(JobsFailedError(f"{failed} of {result['jobs']} jobs got no answer", hint=hint))


def _write_outcomes(outcomes: list[dict[str, Any]], output: Path | None, as_json: bool) -> None:
    """Writes the rows to the file, or prints them unless the JSON object has them. Raises `PylonError`."""
    try:
        if output is not None:
            write_file(outcomes, output)
        elif not as_json and out.is_terminal:
            print_answers(outcomes)
        elif not as_json:
            write_rows(outcomes, sys.stdout, as_csv=False)
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        hint = "--resume prints the same answers again; nothing is paid twice."
        where = output or "standard output"
        raise PylonError(f"{where} could not be written: {error.strerror}", hint=hint) from error


def _interrupted(so_far: str, *, resumed: bool) -> InterruptError:
    """The error of a run that was interrupted: how far it came, and the command that continues it."""
    if not so_far and not resumed:
        return InterruptError("interrupted before any prompt was sent")
    again = shlex.join(["pylon", *(each for each in sys.argv[1:] if each != "--resume"), "--resume"])
    hint = f"`{again}` continues from there; nothing is asked or paid twice. Add `--seconds 0`"
    hint += " to print the answers so far without asking anyone."
    # A resumed run reports its earlier answers only together with the first new ones.
    return InterruptError(f"interrupted: {so_far or 'before any more answers arrived'}", hint=hint)
