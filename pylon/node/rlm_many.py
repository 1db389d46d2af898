"""Many questions in one go: one node, one root model, a run and a report each."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import orjson

from pylon.clock import SystemClock
from pylon.errors import PylonError, UsageError, error_row
from pylon.node import rlm
from pylon.node import rlm_parts as parts
from pylon.node.control import Node
from pylon.node.home import Home
from pylon.node.rlm import Question
from pylon.node.sublm import SwarmSubLM
from pylon.rlm import runs
from pylon.rlm.root import Root
from pylon.sections import Config


@dataclass(frozen=True, slots=True)
class Row:
    """A question of a data set. `context` None is that of all of them; `value` is a text in its place. `given` is
    what the set says of it, which its report says again."""

    question: str
    context: tuple[str, ...] | None
    value: str | None
    given: dict[str, Any]


def rows_of(text: str) -> list[Row]:
    """The questions of a JSONL file: objects with `question`, and `context` (a path or several) or `text` where they
    have one of their own; other fields are for whoever reads the reports. Raises `UsageError` that names the line."""
    rows = [_row(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not rows:
        raise UsageError("there is no question", hint='A line is like {"question": "Who signed it?"}.')
    return rows


async def ask_many(
    home: Home,
    config: Config,
    node: Node,
    rows: list[Row],
    question: Question,
    *,
    at_once: int = 1,
    tell: Callable[[str], None] = lambda _: None,
) -> AsyncGenerator[dict[str, Any]]:
    """Each row's report as it is done: `index` from 0, `given`, and what `rlm.ask` gives or `error`.

    Everything else is as `question` has it. Every run has the whole budget for itself. A question that fails leaves
    the others alone, but for a root model that cannot be opened: then nothing is asked. Older runs are let go at the
    beginning only, so that none of these goes.
    """
    section = parts.overridden(config.rlm, question.wishes)
    asked = [_asked(row, question) for row in rows]
    tell(f"{len(rows):,} questions, each for at most {section.max_sats:,} sats")
    if len(rows) > section.keep_runs:
        tell(f"their runs stay until the next command; then the newest {section.keep_runs:,} do (rlm.keep_runs)")
    runs.prune(home.runs, section.keep_runs)
    places = asyncio.Semaphore(at_once)
    async with AsyncExitStack() as stack:
        root = None
        if parts.strategy_of(section, question.strategy) == "rlm":
            sub = SwarmSubLM(node)
            opening = parts.open_root(home, config, section, sub, SystemClock(), await sub.event_bytes())
            root = await stack.enter_async_context(opening)

        async def one(index: int) -> dict[str, Any]:
            async with places:
                return {"index": index, "given": rows[index].given} | await _one(asked[index], root)

        async def _one(wanted: Question, root: Root | None) -> dict[str, Any]:
            try:
                return await rlm.ask(home, config, node, wanted, root=root, prune=False)
            except PylonError as error:
                return {"answer": None, "partial": True, "error": error_row(error)}

        tasks = [asyncio.create_task(one(index)) for index in range(len(rows))]
        try:
            for done in asyncio.as_completed(tasks):
                yield await done
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _asked(row: Row, question: Question) -> Question:
    asked = replace(question, question=row.question)
    if row.value is not None:
        return replace(asked, context=(), value=row.value)
    if row.context is not None:
        asked = replace(asked, context=row.context)
    if not asked.context:
        raise UsageError("a question has no context", hint="Give it `context` or `text`, or give all one: --context.")
    if "-" in asked.context:
        raise UsageError("standard input is read once, and there are many questions", hint="Put it in a file.")
    return asked


def _row(number: int, line: str) -> Row:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"line {number} of the questions is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise UsageError(f"line {number} of the questions is no object")
    question, context, text = row.get("question"), row.get("context"), row.get("text")
    paths = [context] if isinstance(context, str) else context
    if not isinstance(question, str) or not question.strip():
        raise UsageError(f"line {number} of the questions has no `question`")
    if paths is not None and not (isinstance(paths, list) and paths and all(isinstance(one, str) for one in paths)):
        raise UsageError(f"line {number} of the questions: `context` is a path, or several")
    if text is not None and not isinstance(text, str):
        raise UsageError(f"line {number} of the questions: `text` is a text")
    if text is not None and paths is not None:
        raise UsageError(f"line {number} of the questions has `context` and `text`: one of them is meant")
    given = {name: value for name, value in row.items() if name != "text"}
    return Row(question.strip(), None if paths is None else tuple(paths), text, given)
