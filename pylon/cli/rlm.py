"""`pylon rlm`: ask a question about a text that is too long to read, and look at what was done for it."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import orjson
import typer
import typer.core
from rich.status import Status

from pylon.cli import stdin
from pylon.cli.output import ago, counted, err, out, table
from pylon.cli.running import Json, fail, print_json, print_text, run
from pylon.errors import JobsFailedError, UsageError
from pylon.money.msat import sats_text
from pylon.money.network import Network
from pylon.node import rlm as node_rlm
from pylon.node.home import open_home
from pylon.node.rlm import Question
from pylon.node.session import open_node
from pylon.rlm import runs
from pylon.rlm.progress import Tally
from pylon.rlm.strategies import Strategy
from pylon.rlm.trajectory import Event
from pylon.rlm.viewer import export_rlm

RunId = Annotated[str, typer.Argument(help="A run's id or the start of it; `last` is the newest.")]


class _Group(typer.core.TyperGroup):
    """`pylon rlm "question"` is `pylon rlm ask "question"`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["ask", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_Group, no_args_is_help=True, help="Ask a question about a text of any length.")


@app.command("ask")
def ask_(
    question: Annotated[str, typer.Argument(help="The question; - reads it from standard input.")],
    context: Annotated[
        list[str] | None,
        typer.Option("--context", "-c", help="A file, folder or glob, or - for standard input; may be repeated."),
    ] = None,
    shape: Annotated[
        str, typer.Option("--as", help="What the REPL sees: auto, text, json, or files (a dict by name).")
    ] = "auto",
    strategy: Annotated[
        str | None,
        typer.Option(help="rlm, map-reduce or search (default: rlm with a root model, map-reduce without)."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model that sub-calls ask for (rlm.sub_model).")] = None,
    max_depth: Annotated[int | None, typer.Option(help="How deep loops may stand inside each other.")] = None,
    turns: Annotated[int | None, typer.Option(help="Turns of a loop.")] = None,
    calls: Annotated[int | None, typer.Option(help="The most sub-calls (rlm.max_calls).")] = None,
    sats: Annotated[int | None, typer.Option(help="The most sats (rlm.max_sats).")] = None,
    tokens: Annotated[
        int | None, typer.Option(help="The most tokens, of root and sub-calls together (rlm.max_tokens).")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="The most seconds (rlm.max_wall_s).")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of sub-calls; at 0 equal prompts go once.")] = None,
    unsafe: Annotated[
        bool,
        typer.Option(
            "--unsafe-local-repl",
            help="Run the model's code with all rights of your user, in no sandbox: it may read, change and send"
            " whatever you may.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Ask a question about a text of any length. `pylon rlm "question"` does the same.

    The text becomes a variable in a sandboxed Python; a root model, or a program, cuts it up and asks the swarm about
    the pieces. The answer goes to standard output, the rest to standard error. An answer that is partial (turns,
    budget or root ran out) ends with status 5, and so does none.
    """
    for name, value, known in (("--as", shape, _SHAPES), ("--strategy", strategy, _STRATEGIES)):
        if value is not None and value not in known:
            raise typer.BadParameter(f"one of {', '.join(known)}", param_hint=name)
    wishes = {
        "sub_model": model, "max_depth": max_depth, "turns": turns, "max_calls": calls, "max_sats": sats,
        "max_tokens": tokens, "max_wall_s": seconds, "sub_temperature": temperature,
    }  # fmt: skip
    paths = tuple(context or ())
    if question == "-":
        if "-" in paths:
            raise typer.BadParameter("question and context cannot both be standard input", param_hint="QUESTION")
        question = stdin.text("QUESTION").strip()
    if not question.strip():
        raise typer.BadParameter("there is nothing in it", param_hint="QUESTION")
    chosen = cast("Strategy | None", strategy)
    asked = Question(question, paths, "", cast("Any", shape), chosen, wishes, stdin.binary(), unsafe)
    run(_ask(asked, as_json), as_json=as_json)


_SHAPES = ("auto", "text", "json", "files")
_STRATEGIES = ("rlm", "map-reduce", "search")


async def _ask(question: Question, as_json: bool) -> None:
    if not question.context:
        raise UsageError("there is no --context", hint="Name a file, a folder or a glob, or - for standard input.")
    home, config = open_home()
    with Status("starting", console=err) if err.is_terminal and not as_json else _Quiet() as status:

        def heard(_: Event, tally: Tally) -> None:
            status.update(tally.line)

        async with open_node(home, config) as node:
            report = await node_rlm.ask(home, config, node, question, listener=heard, tell=_tell)
    if as_json:
        print_json(report)
    elif report["answer"] is not None:
        print_text(report["answer"])
    _tell(_summary(report, Network(config.network).unit))
    if report["answer"] is None or report["partial"]:
        what = "there is no answer" if report["answer"] is None else "the answer is partial"
        hint = f"`pylon rlm show {report['id']}` tells what was done."
        fail(JobsFailedError(f"{what} ({report['reason']}): {report['detail']}", hint=hint))


def _tell(text: str) -> None:
    err.print(text, style="dim")


class _Quiet:
    """Where nobody watches."""

    def __enter__(self) -> "_Quiet":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was shown."""

    def update(self, text: str) -> None:
        """Shows nothing."""


def _summary(report: dict[str, Any], unit: str) -> str:
    failed = f", {report['failed']:,} failed" if report["failed"] else ""
    return (
        f"{counted(report['turns'], 'turn')}, {counted(report['calls'], 'sub-call')}{failed},"
        f" {counted(len(report['providers']), 'provider')},"
        f" {sats_text(report['msat'], unit)}, {report['wall_s']:.1f} s; run {report['id']}"
    )


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, the newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """List the runs that are kept."""
    run(_list(limit, as_json), as_json=as_json)


async def _list(limit: int, as_json: bool) -> None:
    home, config = open_home()
    unit = Network(config.network).unit
    rows = [runs.summary(runs.Run(home.runs / name)) for name in runs.run_ids(home.runs)[:limit]]
    if as_json:
        print_json({"runs": rows})
        return
    made = table("run", "state", ">turns", ">sub-calls", ">cost", "question", "answer")
    for row in rows:
        state = row["reason"] if row["partial"] else row["state"]
        figures = (str(row["turns"]), f"{row['calls']:,}", sats_text(row["msat"], unit))
        made.add_row(row["id"], state, *figures, _short(row["question"])[:50], _short(row["answer"] or "")[:40])
    # An id that is cut is of no use.
    for column in made.columns[:-2]:
        column.no_wrap = True
    out.print(made, crop=False)


@app.command("show")
def show_(
    name: RunId = "last",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the events as they are, one a line.")] = False,
) -> None:
    """Show what a run did, event by event."""
    run(_show(name, follow, as_json), as_json=as_json)


async def _show(name: str, follow: bool, as_json: bool) -> None:
    home, config = open_home()
    unit = Network(config.network).unit
    found = runs.find_run(home.runs, name)
    begun = None
    for event in found.follow() if follow else found.events():
        begun = event["at"] if begun is None else begun
        if as_json:
            print_json(event)
        else:
            out.print(f"{ago(event['at'] - begun):>8}  {_line(found, event, unit)}")


def _line(found: runs.Run, event: Event, unit: str) -> str:
    where = f"{event['loop']} turn {event['turn']}" if "turn" in event else event.get("loop", "")
    match event["type"]:
        case "run":
            return f"{event['strategy']}: {event['question']['preview']}"
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
            told = f"{event['provider'][:10]} {event['model']}, {sats_text(event['msat'], unit)}"
            return f"  ← {event['call']} {_short(event['text']['preview'])} ({told})"
        case "final":
            answer = "no answer" if event["answer"] is None else found.text(event["answer"])
            return f"{'partial, ' if event['partial'] else ''}{event['reason']}: {answer}"
        case kind:
            return f"{where}: {kind}"


def _short(text: str) -> str:
    return " ".join(text.split())[:100]


def _indented(text: str) -> str:
    return "\n".join(f"            {line}" for line in text.rstrip().splitlines()[:40])


@app.command("replay")
def replay_(name: RunId = "last", as_json: Json = False) -> None:
    """Run the code of a run again, with the answers that it got then and no model at all."""
    run(_replay(name, as_json), as_json=as_json)


async def _replay(name: str, as_json: bool) -> None:
    home, config = open_home()
    result = await node_rlm.replay_run(home, config, runs.find_run(home.runs, name))
    if as_json:
        print_json(result)
    elif result["answer"] is not None:
        print_text(result["answer"])
    if not result["same"]:
        hint = f"`pylon rlm show {result['id']}` tells what happened this time."
        fail(JobsFailedError("the replay came to another answer than the run", hint=hint))


@app.command("export")
def export_(
    name: RunId = "last",
    form: Annotated[
        Literal["rlm", "events"],
        typer.Option("--format", help="rlm: for the viewer of the paper's engine; events: our own, texts included."),
    ] = "rlm",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where it goes (default: standard output).")
    ] = None,
) -> None:
    """Write a run's trajectory as JSONL for other programs."""
    run(_export(name, form, output))


async def _export(name: str, form: str, output: Path | None) -> None:
    home, _ = open_home()
    found = runs.find_run(home.runs, name)
    lines = export_rlm(found) if form == "rlm" else map(found.whole, found.events())
    text = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    if output is None:
        sys.stdout.buffer.write(text)
        sys.stdout.flush()
    else:
        output.write_bytes(text)
        err.print(f"{output}: {len(text):,} bytes")
