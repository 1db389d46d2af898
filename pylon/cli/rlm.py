"""`pylon rlm`: ask a question about a text that is too long to read, and look at what was done for it."""

import sys
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer
import typer.core
from rich.table import Table
from rich.text import Text

from pylon.cli.output import ago, counted, err, out, short, table
from pylon.cli.rlm_ask import ask
from pylon.cli.rlm_report import summary
from pylon.cli.rlm_resume import resume
from pylon.cli.running import Json, fail, print_json, print_text, run
from pylon.cli.whole_file import whole_file
from pylon.errors import JobsFailedError
from pylon.jobs.size import text_bytes
from pylon.money.msat import sats_text
from pylon.money.network import Network
from pylon.node.home import open_home
from pylon.node.rlm import run as node_rlm
from pylon.rlm import runs
from pylon.rlm.progress import CANCELLED, Tally
from pylon.rlm.table import as_csv, call_rows
from pylon.rlm.trajectory import Event
from pylon.rlm.viewer import export_rlm
from pylon.text import clean_line

RunId = Annotated[str, typer.Argument(help="A run's id or its beginning; `last` is the newest run.")]


class _Group(typer.core.TyperGroup):
    """`pylon rlm "question"` is `pylon rlm ask "question"`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help" and not self._mistyped(args):
            args = ["ask", *args]
        return super().parse_args(ctx, args)

    def _mistyped(self, args: list[str]) -> bool:
        """Whether the first argument is a mistyped command. A question comes with `--context` or `--questions`."""
        asked = any(arg.startswith(("-c", "--context", "--questions")) for arg in args)
        return not asked and bool(get_close_matches(args[0], self.commands))


# From this many columns on there is room for the turns and the answer of a run, too.
_WIDE = 100

app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    subcommand_metavar='"QUESTION" -c FILE… | COMMAND [ARGS]…',
    help='Ask a question about a text of any length: `pylon rlm "QUESTION" -c FILE…`. The commands show and'
    " resume runs. `pylon rlm ask --help` lists the options of a question.",
)
app.command("ask")(ask)
app.command("resume")(resume)


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many runs to show, newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """List the stored runs."""
    run(_list(limit, as_json), as_json=as_json)


async def _list(limit: int, as_json: bool) -> None:
    home, config = open_home()
    unit = Network(config.network).unit
    rows = [_row(runs.Run(home.runs / name)) for name in runs.run_ids(home.runs)[:limit]]
    if as_json:
        print_json({"runs": rows})
        return
    out.print(_listing(rows, unit, out.width), crop=False)


def _row(found: runs.Run) -> dict[str, Any]:
    """What the list shows of a run. A run whose record is damaged is listed as such, so that the others still are."""
    try:
        return runs.summary(found)
    except (KeyError, TypeError, ValueError, AttributeError):
        return {"id": found.id, "state": "damaged", "question": "", "answer": None, "partial": None, **Tally().counts}


def _listing(rows: list[dict[str, Any]], unit: str, width: int) -> Table:
    """A line for each run, however narrow the terminal is: ids are never cut, questions and answers are cut to their
    beginnings.
    """
    wide = width >= _WIDE
    made = table(
        "|run", "|state", *([">turns"] if wide else []), ">calls", f">{unit}", "question", *["answer"][:wide]
    )
    for row in rows:
        state = row["reason"] if row["partial"] else row["state"]
        figures = ([str(row["turns"])] if wide else []) + [
            f"{row['calls']:,}",
            sats_text(row["paid_msat"], "").strip(),
        ]
        said = [_beginning(row["question"]), _beginning(row["answer"] or "")]
        made.add_row(row["id"], state, *figures, *said[: 1 + wide])
    return made


def _beginning(text: str) -> Text:
    return Text(clean_line(_short(text)), no_wrap=True, overflow="ellipsis")


@app.command("show")
def show_(
    name: RunId = "last",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing until the run ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the raw events, one JSON object per line.")] = False,
) -> None:
    """Show a run: its question, answer and cost, then its events."""
    run(_show(name, follow, as_json), as_json=as_json)


async def _show(name: str, follow: bool, as_json: bool) -> None:
    home, config = open_home()
    unit = Network(config.network).unit
    found = runs.find_run(home.runs, name)
    events = found.follow() if follow else found.checked_events()
    if as_json:
        for event in events:
            print_json(event)
        return
    if not follow:
        for line in _head(found, unit):
            out.print(line)
    for since, line in _lines(found, events, unit):
        _print_cut(f"{ago(since):>8}  {line}")


def _head(found: runs.Run, unit: str) -> list[str]:
    """What one looks for in a run. Of a damaged one nothing: its events tell where it is."""
    row = _row(found)
    if row["state"] == "damaged":
        return []
    question, answer = "", "no answer"
    for event in found.events():
        if event["type"] == "run":
            question = found.text(event["question"])
        elif event["type"] == "final" and event["answer"] is not None:
            answer = found.text(event["answer"])
    state = f"partial, {row['reason']}" if row["partial"] else row["state"]
    return [question, "", answer, "", f"{state}; {summary(row, unit)}", ""]


def _print_cut(text: str) -> None:
    """Lines of which a terminal shows the beginning; in a file they are whole."""
    for line in text.split("\n"):
        shown = Text(clean_line(line))
        if out.is_terminal:
            shown.truncate(out.width, overflow="ellipsis")
        out.print(shown)


def _lines(found: runs.Run, events: Iterable[Event], unit: str) -> Iterator[tuple[float, str]]:
    """For each event the seconds since the run began and a line on it. Calls that were cancelled together share a
    line."""
    begun = None
    for cancelled, group in groupby(events, _is_cancelled):
        together = 0
        for event in group:
            begun = event["at"] if begun is None else begun
            together += 1
            if not cancelled:
                yield event["at"] - begun, _line(found, event, unit)
        if cancelled:
            many = f"  ✗ {together:,} sub-calls cancelled: {event['message']}"
            yield event["at"] - begun, many if together > 1 else _line(found, event, unit)


def _is_cancelled(event: Event) -> bool:
    return event["type"] == "returned" and event.get("code") == CANCELLED


def _line(found: runs.Run, event: Event, unit: str) -> str:
    where = f"{event['loop']} turn {event['turn']}" if "turn" in event else event.get("loop", "")
    match event["type"]:
        case "run":
            again = ""
            if before := event.get("before"):
                spent = before["spent"]
                so_far = f"{counted(spent['calls'], 'sub-call')}, {sats_text(spent['msat'], unit)}"
                again = f"\n          (resumed after {before['seconds']:,.0f} s, {so_far})"
            return f"{event['strategy']}: {event['question']['preview']}{again}"
        case "loop":
            return f"loop {where} begins, depth {event['depth']}"
        case "turn":
            return f"{where}: {event['model']} said {event['reply']['chars']:,} characters in {event['ms']:,} ms"
        case "cell":
            error = f"\n{event['error']['kind']}: {event['error']['text']}" if event["error"] else ""
            printed = _indented(found.text(event["stdout"]) + error)
            return f"{where}: a cell ran {event['wall_s']:.1f} s{printed and chr(10)}{printed}"
        case "submitted":
            return f"  → {event['call']} {event['kind']}: {_short(event['prompt']['preview'])}"
        case "repeated":
            return f"  = {event['call']} was asked before"
        case "returned" if "code" in event:
            return f"  ✗ {event['call']} {event['code']}: {event['message']}"
        case "returned":
            # The answer of a child loop has no provider.
            who = f"{short(event['provider'])} " if event["provider"] else ""
            told = f"{who}{event['model']}, {sats_text(event['msat'], unit)}"
            return f"  ← {event['call']} {_short(event['text']['preview'])} ({told})"
        case "final":
            answer = "no answer" if event["answer"] is None else found.text(event["answer"])
            return f"{'partial, ' if event['partial'] else ''}{event['reason']}: {answer}"
        case "budget":
            spent = event["spent"]
            used = f"{counted(spent['calls'], 'sub-call')}, {spent['tokens']:,} tokens"
            return f"{where}: so far {used}, {sats_text(spent['msat'], unit)}"
        case "charged":
            return f"{where}: {sats_text(event['msat'], unit)} also charged"
        case "reserved":
            return f"{where}: up to {sats_text(event['msat'], unit)} reserved"
        case "settled":
            return f"{where}: the reserved amount is settled"
        case "cut":
            return f"{where}: from here on the run differs from the earlier one"
        case "shown":
            return f"{where}: the root is told {counted(event['text']['chars'], 'character')}"
        case kind:
            return f"{where}: {kind}"


def _short(text: str) -> str:
    return " ".join(text.split())[:100]


def _indented(text: str) -> str:
    return "\n".join(f"            {line}" for line in text.rstrip().splitlines()[:40])


@app.command("replay")
def replay_(name: RunId = "last", as_json: Json = False) -> None:
    """Rerun a run's code with the answers it got then, without any model."""
    run(_replay(name, as_json), as_json=as_json)


async def _replay(name: str, as_json: bool) -> None:
    home, config = open_home()
    result = await node_rlm.replay_run(home, config, runs.find_run(home.runs, name))
    if as_json:
        print_json(result)
    elif result["answer"] is not None:
        print_text(result["answer"])
    if not result["ended"]:
        hint = f"`pylon rlm show {result['replay_of']}` shows how far it came."
        fail(JobsFailedError(f"run {result['replay_of']} never ended: there is no answer to compare", hint=hint))
    if not result["same"]:
        hint = f"`pylon rlm show {result['id']}` shows what happened this time."
        fail(JobsFailedError("the replay came to a different answer than the run", hint=hint))


@app.command("export")
def export_(
    name: RunId = "last",
    form: Annotated[
        Literal["rlm", "events", "csv"],
        typer.Option(
            "--format",
            help=(
                "rlm: for the paper's viewer; events: Pylon's own events, including texts; csv: one row per sub-call."
            ),
        ),
    ] = "rlm",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write (default: standard output).")
    ] = None,
) -> None:
    """Export a run's trajectory for other programs, as JSONL, or its sub-calls as CSV."""
    run(_export(name, form, output))


async def _export(name: str, form: str, output: Path | None) -> None:
    home, _ = open_home()
    found = runs.find_run(home.runs, name)
    for _ in found.checked_events():
        # Only checked: a damaged record is refused here with the line at fault.
        pass
    if form == "csv":
        text = "".join(as_csv(call_rows(found)))
    else:
        lines = export_rlm(found) if form == "rlm" else map(found.whole, found.events())
        text = "".join(f"{orjson.dumps(line).decode()}\n" for line in lines)
    if output is None:
        sys.stdout.buffer.write(text.encode())
        sys.stdout.flush()
    else:
        with whole_file(output) as stream:
            stream.write(text)
        err.print(f"{output}: {text_bytes(text):,} bytes")
