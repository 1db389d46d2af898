"""A REPL that is no sandbox: `exec` in a thread of this process. For tests of the loop alone, of code they wrote."""

import asyncio
import contextlib
import io
import json
import threading
import time
import traceback
from collections.abc import Sized

from pylon.clock import SystemClock
from pylon.rlm.budget import Limits
from pylon.rlm.context import from_value
from pylon.rlm.repl.protocol import Answer, CellError, CellOutcome, SubCalls, UnknownVariableError, Variable
from pylon.rlm.rlm import Rlm
from pylon.rlm.root import ScriptedRoot
from pylon.rlm.runs import Run
from pylon.rlm.sublm import FunctionSubLM
from pylon.rlm.trajectory import Trajectory

# `print` of a cell goes to its own stream: redirect_stdout is one for the whole process.
_STREAMS = threading.local()


class SubCallError(str):
    code = ""


class InProcessRepl:
    """Speaks the seam, holds nothing back."""

    opened = 0

    async def open(self, context, limits, on_calls):
        type(self).opened += 1
        self._loop = asyncio.get_running_loop()
        self._on_calls = on_calls
        texts = {file.name: file.path.read_text() for file in context.files}
        value = texts if context.kind == "files" else next(iter(texts.values()))
        self._out = set()
        self.answer = {"content": "", "ready": False}
        self._names = {
            "context": json.loads(value) if context.kind == "json" else value,
            "answer": self.answer,
            "llm_query": lambda prompt, model=None: self._ask("llm", [prompt], model)[0],
            "llm_query_batched": lambda prompts, model=None: self._ask("llm", prompts, model),
            "rlm_query": lambda prompt, model=None: self._ask("rlm", [prompt], model)[0],
            "rlm_query_batched": lambda prompts, model=None: self._ask("rlm", prompts, model),
            "SubCallError": SubCallError,
            "FINAL": self._final,
            "print": lambda *values, **options: print(*values, file=_STREAMS.out, **options),
        }
        self._given = set(self._names)

    def _final(self, value):
        self.answer.update(content=str(value), ready=True)

    def _ask(self, kind, prompts, model):
        calls = SubCalls(kind, tuple(prompts), model)
        work = asyncio.run_coroutine_threadsafe(self._on_calls(calls), self._loop)
        self._out.add(work)
        replies = work.result()
        self._out.discard(work)
        return [reply.text if reply.error_code is None else self._error(reply) for reply in replies]

    def _error(self, reply):
        error = SubCallError(reply.text)
        error.code = reply.error_code
        return error

    async def run(self, code, *, seconds=None):
        self.seconds = seconds
        # A thread a cell: those of a pool would all wait for children that find none left.
        done = self._loop.create_future()

        def work():
            outcome = self._run(code)
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(lambda: done.done() or done.set_result(outcome))

        threading.Thread(target=work, daemon=True).start()
        return await done

    def _run(self, code):
        _STREAMS.out = io.StringIO()
        error, started = None, time.monotonic()
        try:
            exec(compile(code, "cell", "exec"), self._names)
        except SyntaxError as fault:
            error = CellError("syntax", str(fault))
        except Exception:
            error = CellError("exception", traceback.format_exc(limit=1))
        answer = Answer(str(self.answer["content"]), bool(self.answer["ready"]), self.answer.get("partial", ""))
        return CellOutcome(
            _STREAMS.out.getvalue(), "", False, error, time.monotonic() - started, answer, self._variables()
        )

    def _variables(self):
        made = {name: value for name, value in self._names.items() if name not in self._given and name[0] != "_"}
        return tuple(
            Variable(
                name,
                type(value).__name__,
                repr(value)[:80],
                len(value) if isinstance(value, Sized) and not isinstance(value, type) else None,
            )
            for name, value in made.items()
        )

    async def value(self, name, *, seconds=None):
        self.seconds = seconds
        if name not in self._names or name in self._given:
            raise UnknownVariableError(f"no variable {name}")
        return Answer(str(self._names[name]), ready=True)

    async def close(self):
        for work in getattr(self, "_out", ()):
            work.cancel()
        await asyncio.sleep(0)


def repl(code: str) -> str:
    """A turn with code."""
    return f"```repl\n{code}\n```"


class Stage:
    """A run with a scripted root, a sub-LM that is a function, and the REPL above; its trajectory stays readable."""

    def __init__(
        self,
        folder,
        root,
        sub=None,
        *,
        settings=None,
        sub_settings=None,
        clock=None,
        open_repl=InProcessRepl,
        shared_budget=None,
    ):
        self.folder = folder
        self.root = root if hasattr(root, "reply") else ScriptedRoot(root)
        self.sub = sub if hasattr(sub, "ask") else FunctionSubLM(sub or (lambda prompt: f"<{prompt}>"))
        self.trajectory = Trajectory(folder / "run", clock or SystemClock())
        self.rlm = Rlm(
            self.root, self.sub, open_repl, self.trajectory, clock or SystemClock(),
            settings=settings, sub_settings=sub_settings,
            shared_budget=shared_budget,
        )  # fmt: skip

    async def run(self, question="what?", context="some text", limits=None, within_s=60, **options):
        made = from_value(context, self.folder / "context")
        try:
            return await asyncio.wait_for(self.rlm.run(question, made, limits or Limits(), **options), within_s)
        finally:
            with contextlib.suppress(OSError):
                self.trajectory.close()

    def events(self, kind=None):
        return [event for event in Run(self.folder / "run").events() if kind in (None, event["type"])]

    def text(self, ref):
        return Run(self.folder / "run").text(ref)
