"""Asks many questions at once (`pylon rlm --questions`): one node and one root model, a run and a report for each."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import orjson

from pylon.clock import SystemClock
from pylon.errors import PylonError, UsageError, error_row
from pylon.money.msat import sats_text
from pylon.money.network import Network
from pylon.node.calls.protocol import Node
from pylon.node.home import Home
from pylon.node.rlm import parts
from pylon.node.rlm import run as rlm
from pylon.node.rlm.run import Question
from pylon.node.rlm.sublm import SwarmSubLM
from pylon.rlm import runs
from pylon.rlm.root import Root
from pylon.rlm.shared_budget import SharedBudget
from pylon.sections import Config, RlmSection
from pylon.tasks import end
from pylon.text import counted

_FORM = 'Write each line like {"question": "Who signed it?"}, plus `context` or `text` if the question has its own.'


@dataclass(frozen=True, slots=True)
class Row:
    """A question of a set. `context` None: it has the context of the whole set; `value` is a text in place of a
    context. `given` is its object in the file without `text`, which its report repeats."""

    question: str
    context: tuple[str, ...] | None
    value: str | None
    given: dict[str, Any]


def rows_of(text: str, name: str) -> list[Row]:
    """Parses a JSONL file of questions: objects with `question`, and optionally a `context` (a path or several) or
    `text` of their own; other fields are only repeated in the reports.

    Raises `UsageError` with `name`, which is the file's, and the line.
    """
    rows = [_row(f"{name}:{number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not rows:
        raise UsageError(f"{name}: it contains no questions", hint=_FORM)
    return rows


def answered(text: str, name: str, rows: list[Row]) -> frozenset[int]:
    """The places of the questions that have a whole answer in `text`, the reports of an earlier command.

    Raises `UsageError` with `name`, which is the file's, and the line, for a line that is no report, or the report of
    another question than the one at its place.
    """
    found: set[int] = set()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            report = orjson.loads(line)
            index, given = int(report["index"]), report["given"]
            whole = report["answer"] is not None and not report["partial"]
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            raise UsageError(
                f"{name}:{number}: this is not a report of `pylon rlm --questions`",
                hint="If the line was cut off, delete it; its question is asked again.",
            ) from None
        if not 0 <= index < len(rows) or given != rows[index].given:
            raise UsageError(
                f"{name}:{number}: this is not a report for question {index} of this set",
                hint="Use the same questions in the same order as before.",
            )
        if whole:
            found.add(index)
    return frozenset(found)


async def ask_many(
    home: Home,
    config: Config,
    node: Node,
    rows: list[Row],
    question: Question,
    *,
    at_once: int = 1,
    budget_each: bool = False,
    leave_out: frozenset[int] = frozenset(),
    tell: Callable[[str], None] = lambda _: None,
) -> AsyncGenerator[dict[str, Any]]:
    """Asks the questions in `rows`, `at_once` at a time; yields each report when its run is done: `index` from 0,
    `given`, and what `rlm.ask` returns, or `error`. The rows at the places in `leave_out` are not asked.

    Everything but the question itself is taken from `question`. All runs share one budget, or with `budget_each` each
    has the whole of it. A question that fails does not affect the others; only if the root model cannot be opened,
    nothing is asked. Older runs are deleted before the first question, so that the runs of this set are all kept.
    `tell` is told what a person may want to know of the set and of its runs, each remark once.
    """
    tell = _once(tell)
    section = parts.overridden(config.rlm, question.wishes)
    strategy = parts.strategy_of(section, question.strategy, question.wishes)
    asked = [_asked(row, question) for row in rows]
    wanted = [index for index in range(len(rows)) if index not in leave_out]
    for line in _announced(len(wanted), section, Network(config.network).unit, budget_each=budget_each):
        tell(line)
    runs.prune(home.runs, section.keep_runs)
    shared_budget = None if budget_each else _shared_budget(section, question)
    places = asyncio.Semaphore(at_once)
    async with AsyncExitStack() as stack:
        if shared_budget is not None:
            stack.push_async_callback(shared_budget.close)
        root: Root | None = None
        if strategy == "rlm":
            sub = SwarmSubLM(node, tell, wait_s=section.max_wall_s)
            opening = parts.open_root(home, config, section, sub, SystemClock(), await sub.event_bytes())
            root = await stack.enter_async_context(opening)

        async def one(index: int) -> dict[str, Any]:
            async with places:
                try:
                    report = await rlm.ask(
                        home,
                        config,
                        node,
                        asked[index],
                        root=root,
                        shared_budget=shared_budget,
                        prune=False,
                        tell=tell,
                    )
                except PylonError as error:
                    report = {"answer": None, "partial": True, "error": error_row(error)}
            return {"index": index, "given": rows[index].given} | report

        tasks = [asyncio.create_task(one(index), name=f"question {index}") for index in wanted]
        try:
            for done in asyncio.as_completed(tasks):
                yield await done
        finally:
            await end(*tasks)


def _once(tell: Callable[[str], None]) -> Callable[[str], None]:
    """Tells each remark once, since the runs of a set mostly have the same to say."""
    told: set[str] = set()

    def once(text: str) -> None:
        if text not in told:
            told.add(text)
            tell(text)

    return once


def _announced(count: int, section: RlmSection, unit: str, *, budget_each: bool) -> list[str]:
    """What a person is told before so many questions are asked."""
    questions = counted(count, "question")
    most = sats_text(1_000 * section.max_sats, unit)
    lines = [f"{questions}, {'each' if budget_each else 'together'} for at most {most}"]
    if count > section.keep_runs:
        kept = f"then only the newest {section.keep_runs:,} (rlm.keep_runs)"
        lines.append(f"all these runs are kept until the next command, {kept}")
    return lines


def _shared_budget(section: RlmSection, question: Question) -> SharedBudget:
    limits = parts.limits_of(section)
    last_s = parts.loop_settings(section, parts.strategy_of(section, question.strategy, question.wishes)).last_s
    # As in a single run, the time for the last turn is kept back from the loops.
    return SharedBudget(replace(limits, wall_s=section.max_wall_s - last_s), SystemClock())


def _asked(row: Row, question: Question) -> Question:
    """The question of a row, with everything else from `question`. Raises `UsageError`."""
    asked = replace(question, question=row.question)
    if row.value is not None:
        return replace(asked, context=(), value=row.value)
    if row.context is not None:
        asked = replace(asked, context=row.context)
    if not asked.context:
        raise UsageError(
            "a question has no context", hint="Give it `context` or `text`, or give all questions one with --context."
        )
    if "-" in asked.context:
        raise UsageError(
            "standard input cannot be the context of many questions, as it is read only once",
            hint="Put the text in a file.",
        )
    return asked


def _row(where: str, line: str) -> Row:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{where}: this is not valid JSON", hint=_FORM) from error
    if not isinstance(row, dict):
        raise UsageError(f"{where}: this is not a JSON object", hint=_FORM)
    question, context, text = row.get("question"), row.get("context"), row.get("text")
    paths = [context] if isinstance(context, str) else context
    if question is None:
        raise UsageError(f"{where}: `question` is missing", hint=_FORM)
    if not isinstance(question, str):
        raise UsageError(f"{where}: `question` must be text", hint=_FORM)
    if not question.strip():
        raise UsageError(f"{where}: `question` is empty", hint=_FORM)
    if paths is not None and not (isinstance(paths, list) and paths and all(isinstance(one, str) for one in paths)):
        raise UsageError(f"{where}: `context` must be a path or a list of paths", hint=_FORM)
    if text is not None and not isinstance(text, str):
        raise UsageError(f"{where}: `text` must be text", hint=_FORM)
    if text is not None and paths is not None:
        raise UsageError(f"{where}: give either `context` or `text`, not both", hint=_FORM)
    given = {name: value for name, value in row.items() if name != "text"}
    return Row(question.strip(), None if paths is None else tuple(paths), text, given)
