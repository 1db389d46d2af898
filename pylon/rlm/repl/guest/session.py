"""One REPL: its variables, and what running a cell in them brings."""

import ast
import asyncio
import builtins
import inspect
import linecache
import reprlib
import sys
import traceback
from collections.abc import Callable, Coroutine
from types import CodeType, ModuleType
from typing import Any, Protocol

from . import concurrency
from .calls import Calls, Query, Reply, SubCallError, as_text
from .capture import Capture
from .fanout.rewrite import rewrite
from .fanout.runtime import Fan
from .port import Message, Port, cut

PREVIEW_CHARS = 200
# As JSON. A cell's end holds two streams of output too, which may be six times as long there as they are.
ANSWER_BYTES = 2 * 1024 * 1024
PARTIAL_CHARS = 2_000
_SHOWN = 500
_ERROR_CHARS = 20_000
_HERE = __file__.removesuffix("session.py")


class Within(Protocol):
    """Runs something where code may run, and gives what it gives."""

    def __call__[T](self, run: Callable[[], T], /) -> T: ...


class CellTime(BaseException):
    """The cell's time is over. Not an Exception, so that `except Exception` in the code lets it through."""


class CellDone(BaseException):
    """SUBMIT, FINAL or FINAL_VAR: the code has its answer and the rest of the cell does not run."""


class Session:
    """`port` leads to the host; `threads` tells whether the sandbox has any.

    All that may run what the code has made runs `within`, but for the compiler: a long `elif` needs more stack.
    """

    def __init__(self, port: Port, context: object, *, threads: bool, within: Within = lambda run: run()) -> None:
        self._within = within
        self._calls = Calls(port)
        self._stdout = Capture(lambda text: port.send({"type": "printed", "stream": "stdout", "text": text}))
        self._stderr = Capture(lambda text: port.send({"type": "printed", "stream": "stderr", "text": text}))
        sys.stdout, sys.stderr = self._stdout, self._stderr
        self._cells = 0
        self._fan = Fan()
        concurrency.install(self._calls, threads=threads)
        llm, rlm = Query(self._calls, "llm"), Query(self._calls, "rlm")
        self._given: dict[str, Any] = {
            "context": context,
            "llm_query": llm,
            "llm_query_batched": llm.batch,
            "llm_batch": llm.batch,
            "rlm_query": rlm,
            "rlm_query_batched": rlm.batch,
            "SubCallError": SubCallError,
            "SHOW_VARS": self._show_vars,
            "SUBMIT": self._submit,
            "FINAL": self._submit,
            "FINAL_VAR": self._final_var,
            Fan.NAME: self._fan,
        }
        self.namespace: dict[str, Any] = {
            "__name__": "__main__",
            "__builtins__": builtins,
            **self._given,
            "answer": {"content": "", "ready": False},
        }

    def run(self, code: str, output_bytes: int, calls: int) -> Message:
        """What happened, as the host's CellOutcome wants it."""
        self._cells += 1
        name = f"<cell {self._cells}>"
        self._stdout.start(output_bytes)
        self._stderr.start(output_bytes)
        self._calls.start_cell(calls)
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        try:
            tree = rewrite(ast.parse(code, name))
            program = compile(tree, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            fault = "".join(traceback.format_exception_only(error)).strip()
            return self._within(lambda: self._ended("syntax", fault))
        return self._within(lambda: self._ended(*self._execute(program)))

    def _ended(self, kind: str | None, text: str) -> Message:
        if kind is None and self._calls.refused:
            kind = "calls"
            text = f"{self._calls.refused} sub-calls were not made: a cell may make {self._calls.limit}."
        answer, fault = self._answer()
        if kind is None and fault:
            kind, text = "exception", f"What `answer` holds cannot be made text: {fault}"
        return {
            "type": "done",
            "stdout": self._stdout.text(),
            "stderr": self._stderr.text(),
            "truncated": self._stdout.truncated or self._stderr.truncated,
            "error": None if kind is None else {"kind": kind, "text": text},
            "answer": answer,
            "variables": self._variables(),
        }

    def _execute(self, program: CodeType) -> tuple[str | None, str]:
        try:
            if program.co_flags & inspect.CO_COROUTINE:
                coroutine: Coroutine[Any, Any, Any] = eval(program, self.namespace)  # noqa: S307
                asyncio.run(coroutine)
            else:
                exec(program, self.namespace)  # noqa: S102
        except CellDone:
            pass
        except CellTime:
            return "time", "The cell's time is over. Its variables are as it left them."
        except MemoryError:
            return "memory", "The cell needs more memory than it may have. Its variables are as it left them."
        except BaseException as error:
            return "exception", _traceback(error)
        finally:
            # Code may have put something else there.
            sys.stdout, sys.stderr = self._stdout, self._stderr
        return None, ""

    def variables(self) -> list[Message]:
        """What the code has defined, newest last."""
        return self._within(self._variables)

    def _variables(self) -> list[Message]:
        return [
            {
                "name": name[:PREVIEW_CHARS],
                "type": _type_name(value),
                "preview": preview(value),
                "size": _size(value),
            }
            for name, value in self._own()[-_SHOWN:]
        ]

    def _own(self) -> list[tuple[str, object]]:
        return [
            (name, value)
            for name, value in list(self.namespace.items())
            if isinstance(name, str)
            and not name.startswith("_")
            and not issubclass(type(value), ModuleType)
            and name != "answer"
            and self._given.get(name, self) is not value
        ]

    def value(self, name: str) -> Message:
        """A variable's text."""
        if name not in self.namespace:
            return {"type": "value", "found": False, "text": ""}
        text, lacks, fault = self._within(lambda: told(self.namespace[name]))
        return {"type": "value", "found": True, "text": text, "lacks": lacks, "fault": fault}

    def _answer(self) -> tuple[Message | None, str]:
        """What `answer` holds, or why that cannot be told."""
        answer = self.namespace.get("answer")
        if isinstance(answer, dict):
            content, ready = answer.get("content", ""), _is_yes(answer.get("ready", False))
            partial = answer.get("partial", "")
        else:
            # Some models write `answer = "…"`; that is text, but not yet said to be final.
            content, ready, partial = ("" if answer is None else answer), False, ""
        text, lacks, fault = told(content)
        if fault:
            return None, fault
        said = str(partial) if isinstance(partial, str) else ""
        partial = "; ".join(filter(None, (lacks, said)))[:PARTIAL_CHARS]
        return ({"content": text, "ready": ready, "partial": partial} if text or ready else None), ""

    def _show_vars(self) -> str:
        lines = [f"{name}: {_type_name(value)} = {preview(value)}" for name, value in self._own()]
        return "\n".join(lines) or "No variables yet."

    def _submit(self, *values: object, **fields: object) -> None:
        value: object = fields or None
        if values:
            value = values[0] if len(values) == 1 else list(values)
        elif len(fields) == 1:
            value = next(iter(fields.values()))
        self.namespace["answer"] = {"content": as_text(value), "ready": True}
        raise CellDone

    def _final_var(self, name: object) -> None:
        is_name = isinstance(name, str) and name.strip() in self.namespace
        self._submit(self.namespace[str(name).strip()] if is_name else name)


def not_json(files: Any, error: Exception) -> Message:
    """For the host: the one file of a context that was said to be JSON, and where it is not."""
    why = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
    text = f"{files[0][0]} is no JSON that can be read: {why}"
    return {"type": "unable", "text": text[:2000], "hint": "Without --as json it is a text.", "context": True}


def told(value: object) -> tuple[str, str, str]:
    """A value's text, what that lacks where it is too long, and why there is none: what the code made may refuse to
    be shown in any way."""
    try:
        whole = as_text(value)
        text = cut(whole, ANSWER_BYTES)
    except CellTime:
        raise
    except BaseException as error:  # its methods are the code's own
        return "", "", f"{_type_name(error)}: {preview(error)}"[:1_000]
    if len(text) == len(whole):
        return text, "", ""
    return text, f"the answer is too long: of its {len(whole)} characters the first {len(text)} are given", ""


def _type_name(value: object) -> str:
    # Not what a metaclass says it is: that may be anything, and may raise anything.
    return str(type.__dict__["__name__"].__get__(type(value)))[:100]


def _is_yes(value: object) -> bool:
    """Whether somebody who wrote this means yes: models write `1`, `"yes"` and `"True"` for True."""
    if isinstance(value, str):
        return value.strip().lower() in ("true", "yes", "y", "1", "ready", "done")
    return isinstance(value, int | float) and bool(value)


def preview(value: object) -> str:
    """The start of its repr, without making the whole of it."""
    try:
        if isinstance(value, str | bytes):
            start = value[:PREVIEW_CHARS]
            text = repr(str(start) if isinstance(start, str) else start)
        else:
            text = _short.repr(value)
    except CellTime:
        raise
    except BaseException as error:  # a repr may raise anything
        text = f"<repr failed: {type(error).__name__}>"
    return text[:PREVIEW_CHARS]


_short = reprlib.Repr(maxlevel=3, maxlist=8, maxtuple=8, maxdict=8, maxset=8, maxstring=80, maxother=PREVIEW_CHARS)


def _size(value: object) -> int | None:
    if type(value) in (str, bytes, list, tuple, dict, set, frozenset, Reply, SubCallError):
        return len(value)  # type: ignore[arg-type]
    return None


def _traceback(error: BaseException) -> str:
    """Without our own frames: the root model wrote the others."""
    report = traceback.TracebackException.from_exception(error, max_group_depth=3, limit=20)
    parts: list[traceback.TracebackException | None] = [report]
    while parts:
        part = parts.pop()
        if part is not None:
            part.stack = traceback.StackSummary.from_list([f for f in part.stack if not _ours(f.filename)])
            parts += [part.__cause__, part.__context__]
    # The end says most: it is the error itself.
    return "".join(report.format()).strip()[-_ERROR_CHARS:]


def _ours(filename: str) -> bool:
    return filename.startswith((_HERE, "<pylon ")) or "/asyncio/" in filename
