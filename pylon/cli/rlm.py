"""`pylon rlm`: asks a question about a text of any length; lists, shows, resumes, replays and exports runs."""

import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer
import typer.core
from rich.table import Table
from rich.text import Text

from pylon.cli.output import err, out, table
from pylon.cli.rlm_ask import ask
from pylon.cli.rlm_resume import resume
from pylon.cli.rlm_show import RunId, first_words, show
from pylon.cli.running import Json, fail, print_json, print_text, run
from pylon.cli.whole_file import whole_file
from pylon.errors import JobsFailedError
from pylon.jobs.size import text_bytes
from pylon.money.msat import sats_text
from pylon.money.network import Network
from pylon.node.home import open_home
from pylon.node.rlm import run as node_rlm
from pylon.rlm import runs
from pylon.rlm.loop_state import Reason, in_words
from pylon.rlm.table import as_csv, call_rows
from pylon.rlm.viewer import export_rlm
from pylon.text import clean_line

# From this many columns on, a list of runs has room for their turns and answers, too.
_WIDE = 100


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


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    subcommand_metavar='"QUESTION" -c FILE… | COMMAND [ARGS]…',
    help='Ask a question about a text of any length: `pylon rlm "QUESTION" -c FILE…`. The commands show and'
    " resume runs. `pylon rlm ask --help` lists the options of a question.",
)
app.command("ask")(ask)
app.command("resume")(resume)
app.command("show")(show)


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
    rows = [runs.list_row(runs.Run(home.runs / name)) for name in runs.run_ids(home.runs)[:limit]]
    if as_json:
        print_json({"runs": rows})
        return
    out.print(_listing(rows, unit, out.width), crop=False)


def _listing(rows: list[dict[str, Any]], unit: str, width: int) -> Table:
    """A line for each run, for a terminal of `width` columns. Questions and answers are cut to fit; ids never are."""
    wide = width >= _WIDE
    columns = ["|run", "|state", *([">turns"] if wide else []), ">calls", f">{unit}", "question"]
    made = table(*columns, *(["answer"] if wide else []))
    for row in rows:
        state = _state(row)
        turns = [str(row["turns"])] if wide else []
        answer = [_beginning(row["answer"] or "")] if wide else []
        paid = sats_text(row["paid_msat"], "").strip()
        made.add_row(row["id"], state, *turns, f"{row['calls']:,}", paid, _beginning(row["question"]), *answer)
    return made


def _state(row: dict[str, Any]) -> str:
    """Whether a run goes on, or how it ended; of a partial answer, what it lacked."""
    if not row["partial"]:
        return str(row["state"])
    return "partial" if row["reason"] == Reason.FINAL else in_words(row["reason"])


def _beginning(text: str) -> Text:
    return Text(clean_line(first_words(text)), no_wrap=True, overflow="ellipsis")


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
        # Read once for the check alone: a damaged record is refused here, with the line at fault.
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
