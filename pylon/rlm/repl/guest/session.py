"""The REPL inside the sandbox: its variables, and running cells with them."""

import ast
import asyncio
import builtins
import inspect
import linecache
import sys
import traceback
from collections.abc import Callable, Coroutine
from types import CodeType, ModuleType
from typing import Any, Protocol

from . import answer as answers
from . import concurrency, shown
from .calls import Calls, Query, SubCallError
from .capture import Capture
from .endings import CellDone, CellTime
from .fanout.runtime import Fan
from .port import Message, Port

_SHOWN = 500
_ERROR_CHARS = 20_000
_NOT_TAKEN = "`answer` was not taken, as the cell failed."
_HERE = __file__.removesuffix("session.py")


class Within(Protocol):
    """Runs a function where the code is allowed to run, and returns its result."""

    def __call__[T](self, run: Callable[[], T], /) -> T: ...


class Session:
    """One REPL. `port` is the connection to the host; `threads` tells whether the sandbox has threads.

    Everything that may run code of the cells is run by `within`; only the compiler is not, since a long `elif` chain
    needs more stack than that leaves.
    """

    def __init__(self, port: Port, context: object, *, threads: bool, within: Within = lambda run: run()) -> None:
        self._within = within
        self._calls = Calls(port)
        self._stdout = Capture(lambda text: port.send({"type": "printed", "stream": "stdout", "text": text}))
        self._stderr = Capture(lambda text: port.send({"type": "printed", "stream": "stderr", "text": text}))
        sys.stdout, sys.stderr = self._stdout, self._stderr
        self._cells = 0
        self._cut_off = False  # whether the last cell was ended for its time or memory
        self._fan = Fan(self._calls, self._stdout, concurrency.POOLS)
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
        """Runs one cell; the message that tells the host of its outcome. Raises MemoryError if that does not fit."""
        self._cells += 1
        # An earlier cell may have used this name for a variable.
        self.namespace[Fan.NAME] = self._fan
        name = f"<cell {self._cells}>"
        self._stdout.start(output_bytes)
        self._stderr.start(output_bytes)
        self._calls.start_cell(calls, keep=self._cut_off)
        self._cut_off = False
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        try:
            tree = self._fan.compiled_from(code, name)
            program = compile(tree, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            fault = "".join(traceback.format_exception_only(error)).strip()
            return self._within(lambda: self._ended("syntax", fault))
        return self._within(lambda: self._ended(*self._execute(program)))

    def _ended(self, kind: str | None, text: str) -> Message:
        if kind is None and self._calls.refused:
            kind = "calls"
            text = f"{self._calls.refused} sub-calls were not made: a cell may make {self._calls.limit}."
        answer, fault = answers.read(self.namespace.get("answer"))
        self._cut_off = kind in ("time", "memory")
        # Sub-calls over the limit are no failure of the cell: the code has gone on without their answers.
        failed = kind not in (None, "calls")
        if fault and not failed:
            kind, text = "exception", fault
        elif failed and (fault or (answer is not None and answer["ready"])):
            text = f"{text}\n\n{_NOT_TAKEN}"
        if failed and answer is not None:
            answer["ready"] = False
        if fault or failed:
            answers.withdraw(self.namespace.get("answer"))
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
            self._fan.start_cell()
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
            # The code may have replaced them.
            sys.stdout, sys.stderr = self._stdout, self._stderr
        return None, ""

    def _variables(self) -> list[Message]:
        """The variables that the code has defined, newest last."""
        return [
            {
                "name": name[: shown.PREVIEW_CHARS],
                "type": shown.type_name(value),
                "preview": shown.preview(value),
                "size": shown.size(value),
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
        """The message with the text of a variable."""
        if name not in self.namespace:
            return {"type": "value", "found": False, "text": ""}
        if why_not := answers.no_answer(self.namespace[name]):
            return {
                "type": "value",
                "found": True,
                "text": "",
                "fault": f"{name[: shown.PREVIEW_CHARS]} is {why_not}",
            }
        text, lacks, fault = self._within(lambda: answers.described(self.namespace[name]))
        fault = f"It cannot be made text: {fault}" if fault else ""
        return {"type": "value", "found": True, "text": text, "lacks": lacks, "fault": fault}

    def _show_vars(self) -> str:
        lines = [f"{name}: {shown.type_name(value)} = {shown.preview(value)}" for name, value in self._own()]
        return "\n".join(lines) or "No variables yet."

    def _submit(self, *values: object, **fields: object) -> None:
        value: object = fields or None
        if values:
            value = values[0] if len(values) == 1 else list(values)
        elif len(fields) == 1:
            value = next(iter(fields.values()))
        self.namespace["answer"] = {"content": value, "ready": True}
        raise CellDone

    def _final_var(self, name: object) -> None:
        if isinstance(name, str) and (word := name.strip()) in self.namespace:
            self._submit(self.namespace[word])
        # `FINAL_VAR(result)`, without quotes, passes a variable's value, which is the answer. But a single word that
        # no variable holds is taken for a misspelt name.
        if type(name) is str and name.strip().isidentifier() and not self._held(name):
            raise NameError(
                f"FINAL_VAR: there is no variable {name[: shown.PREVIEW_CHARS]!r}."
                " SHOW_VARS() lists those that there are; FINAL(value) takes the answer itself."
            )
        self._submit(name)

    def _held(self, text: str) -> bool:
        return any(type(value) is str and value == text for value in list(self.namespace.values()))


def without_memory() -> Message:
    """The outcome of a cell that has left too little memory even for its own outcome."""
    return {
        "type": "done",
        "stdout": "",
        "stderr": "",
        "truncated": True,
        "error": {
            "kind": "memory",
            "text": "The variables leave too little memory for the cell's outcome. They stand: delete some.",
        },
        "answer": None,
        "variables": [],
    }


def not_json(files: Any, error: Exception) -> Message:
    """The message that the context, declared to be JSON, is not, and where."""
    why = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
    text = f"{files[0][0]} is no JSON that can be read: {why}"
    return {"type": "unable", "text": text[:2000], "hint": "Without --as json it is a text.", "context": True}


def _traceback(error: BaseException) -> str:
    """The traceback of an error for the root model, without the frames of Pylon's own code."""
    report = traceback.TracebackException.from_exception(error, max_group_depth=3, limit=20)
    parts: list[traceback.TracebackException | None] = [report]
    while parts:
        part = parts.pop()
        if part is not None:
            part.stack = traceback.StackSummary.from_list([f for f in part.stack if not _ours(f.filename)])
            parts += [part.__cause__, part.__context__]
    # Cut at the front: the end is the error itself.
    return "".join(report.format()).strip()[-_ERROR_CHARS:]


def _ours(filename: str) -> bool:
    return filename.startswith((_HERE, "<pylon ")) or "/asyncio/" in filename
