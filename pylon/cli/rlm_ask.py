"""`pylon rlm ask`: asks one question about a text, or each question of a file."""

import asyncio
import time
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from pylon.cli import stdin
from pylon.cli.rlm_report import progress, tell, tell_interrupted, tell_report
from pylon.cli.running import Json, ended_as_by_ctrl_c, fail, print_json, run
from pylon.cli.stdin import StandardInput
from pylon.errors import InterruptError, JobsFailedError, UsageError
from pylon.money.network import Network
from pylon.node.home import open_home
from pylon.node.rlm import many as rlm_many
from pylon.node.rlm import run as node_rlm
from pylon.node.rlm.run import Question
from pylon.node.session import open_node
from pylon.rlm import runs
from pylon.rlm.context import Shape
from pylon.rlm.strategies import Strategy


def ask(
    question: Annotated[
        str | None, typer.Argument(help="The question, or - to read it from standard input.", show_default=False)
    ] = None,
    context: Annotated[
        list[str] | None,
        typer.Option("--context", "-c", help="A file, folder or glob, or - for standard input. Repeatable."),
    ] = None,
    questions: Annotated[
        str | None,
        typer.Option(
            "--questions",
            help=(
                "Ask many questions from a JSONL file (- for standard input). Each line has a "
                "`question`, and optionally its own `context` or `text`. Prints one line of JSON per "
                "question."
            ),
        ),
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, help="With --questions: how many runs go on at once.")] = 1,
    budget_each: Annotated[
        bool, typer.Option("--budget-each", help="With --questions: give each question the whole budget.")
    ] = False,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            metavar="REPORTS",
            help=(
                "With --questions: skip those that already have a complete answer in this file of reports. "
                "`pylon rlm resume` continues a single run."
            ),
        ),
    ] = None,
    shape: Annotated[
        Shape, typer.Option("--as", help="What the REPL gets: auto, text, json, or files (a dict by name).")
    ] = "auto",
    strategy: Annotated[
        Strategy | None,
        typer.Option(help="rlm, map-reduce or search (default: rlm if a root model is set, otherwise map-reduce)."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model for sub-calls (rlm.sub_model).")] = None,
    max_depth: Annotated[
        int | None, typer.Option(help="How deeply recursive calls may nest (rlm.max_depth).")
    ] = None,
    turns: Annotated[int | None, typer.Option(help="The most turns of one loop (rlm.turns).")] = None,
    calls: Annotated[int | None, typer.Option(help="The most sub-calls (rlm.max_calls).")] = None,
    sats: Annotated[int | None, typer.Option(help="The most sats (rlm.max_sats).")] = None,
    tokens: Annotated[
        int | None, typer.Option(help="The most tokens, root model and sub-calls together (rlm.max_tokens).")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="The most seconds (rlm.max_wall_s).")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="The temperature of sub-calls; at 0, equal prompts are asked once.")
    ] = None,
    sub_max_tokens: Annotated[
        int | None, typer.Option(help="The longest answer to a sub-call, in tokens (rlm.sub_max_tokens).")
    ] = None,
    root_model: Annotated[str | None, typer.Option(help="The root model's id (rlm.root_model).")] = None,
    root_temperature: Annotated[
        float | None, typer.Option(help="The temperature of the root model (rlm.root_temperature).")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The seed for sampled answers (rlm.seed).")] = None,
    sandbox: Annotated[
        Literal["auto", "wasm", "process"] | None,
        typer.Option(help="The sandbox: auto, wasm or process (rlm.sandbox)."),
    ] = None,
    unsafe: Annotated[
        bool,
        typer.Option(
            "--unsafe-local-repl",
            help=(
                "Run the model's code without a sandbox, as your user. It can read, change and send anything you can."
            ),
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Ask a question about a text of any length. `pylon rlm "question"` does the same.

    The text becomes a variable in a sandboxed Python. A root model, or a fixed program, splits it up and asks the
    swarm about the pieces. The answer goes to standard output, everything else to standard error. If the answer
    is partial (turns, budget or root model ran out) or missing, the command exits with status 5.
    """
    wishes = {
        "sub_model": model, "max_depth": max_depth, "turns": turns, "max_calls": calls, "max_sats": sats,
        "max_tokens": tokens, "max_wall_s": seconds, "sub_temperature": temperature, "sub_max_tokens": sub_max_tokens,
        "root_model": root_model, "root_temperature": root_temperature, "seed": seed, "sandbox": sandbox,
    }  # fmt: skip
    if (question is None) == (questions is None):
        raise typer.BadParameter("give either a question or --questions, not both", param_hint="QUESTION")
    if strategy not in (None, "rlm") and (root_model is not None or root_temperature is not None):
        option = "--root-temperature" if root_model is None else "--root-model"
        raise typer.BadParameter(f"the strategy {strategy} has no root model", param_hint=option)
    paths = tuple(context or ())
    if "-" in paths and "-" in (question, questions):
        raise typer.BadParameter("question and context cannot both be standard input", param_hint="QUESTION")
    if budget_each and questions is None:
        raise typer.BadParameter("it needs --questions", param_hint="--budget-each")
    if resume is not None and (questions is None or resume == "-"):
        raise typer.BadParameter("it is a file of reports, and needs --questions", param_hint="--resume")
    given = StandardInput()
    asked = Question(question or "", paths, "", shape, strategy, wishes, given, unsafe)
    if questions is None:
        run(_ask(asked, given, as_json), as_json=as_json)
    else:
        run(_ask_many(questions, given, asked, at_once, budget_each, resume), as_json=False)


async def _rows(name: str, given: StandardInput) -> list[rlm_many.Row]:
    """The questions of a file; `-` is standard input. Raises `UsageError`."""
    if name == "-":
        return rlm_many.rows_of(await given.text(), "standard input")
    return rlm_many.rows_of(_text(name), name)


def _text(name: str) -> str:
    """The text of a file. Raises `UsageError` if it cannot be read or is not UTF-8."""
    try:
        data = Path(name).read_bytes()
    except OSError as error:
        hint = "Check its name and its permissions."
        raise UsageError(f"{name} cannot be read: {error.strerror}", hint=hint) from error
    return stdin.decoded(data, name)


async def _ask(question: Question, given: StandardInput, as_json: bool) -> None:
    asked = await given.text() if question.question == "-" else question.question
    if not asked.strip():
        where = "standard input" if question.question == "-" else "the question"
        raise UsageError(f"{where} is empty", hint="Say what to ask about the text.")
    question = replace(question, question=asked.strip())
    if not question.context:
        hint = "Name a file, a folder or a glob, or - for standard input."
        if len(question.question.split()) == 1:
            # A mistyped command looks like a question of one word.
            hint += " If you meant a command: `pylon rlm --help` lists them."
        raise UsageError("--context is missing", hint=hint)
    home, config = open_home()
    unit = Network(config.network).unit
    folder = runs.new_run(home.runs, time.time())
    try:
        with progress(unit, as_json) as heard, ended_as_by_ctrl_c(), given.in_use():
            async with open_node(home, config) as node:
                report = await node_rlm.ask(
                    home, config, node, question, listener=heard, tell=tell, folder=folder
                )  # fmt: skip
    except asyncio.CancelledError:
        tell_interrupted(runs.Run(folder), unit, as_json)
    tell_report(report, unit, as_json)


async def _ask_many(
    questions: str,
    given: StandardInput,
    question: Question,
    at_once: int,
    budget_each: bool,
    resume: str | None,
) -> None:
    rows = await _rows(questions, given)
    done: frozenset[int] = frozenset()
    if resume is not None:
        done = rlm_many.answered(_text(resume), resume, rows)
        tell(f"{len(done):,} of {len(rows):,} questions already have an answer in {resume}")
    home, config = open_home()
    lacking = 0
    try:
        with ended_as_by_ctrl_c():
            async with (
                open_node(home, config) as node,
                aclosing(
                    rlm_many.ask_many(
                        home,
                        config,
                        node,
                        rows,
                        question,
                        at_once=at_once,
                        budget_each=budget_each,
                        leave_out=done,
                        tell=tell,
                    )
                ) as reports,
            ):
                async for report in reports:
                    print_json(report)
                    lacking += report.get("answer") is None or bool(report["partial"])
    except asyncio.CancelledError:
        fail(
            InterruptError(
                "interrupted; the questions printed so far are done", hint="`pylon rlm list` shows the runs."
            )
        )
    if lacking:
        fail(
            JobsFailedError(
                f"{lacking:,} of {len(rows):,} questions got no answer, or a partial one", hint="Each line says why."
            )
        )
