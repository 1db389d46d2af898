"""A REPL whose code runs in a child process, and in a new one after a child was lost."""

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from pylon.clock import Clock, SystemClock
from pylon.errors import MalformedError, SandboxError, refusal
from pylon.rlm.repl import wire
from pylon.rlm.repl.folders import ReplFolder
from pylon.rlm.repl.life import Backend, Life, Stopped
from pylon.rlm.repl.protocol import (
    MIB,
    Answer,
    CellError,
    CellLimits,
    CellOutcome,
    ContextSource,
    ErrorKind,
    OnCalls,
    UnknownVariableError,
)

_CODE_CHARS = 2 * MIB
# The most output of one stream: two of them, with every character escaped, must fit a frame.
_OUTPUT_BYTES = MIB
# How much more memory a JSON context takes as objects than as text.
_CONTEXT_GROWTH = 4
_FAULT_CHARS = 1_000
_LOST = "Its variables are lost; `context` is there again in the next cell."


class ChildRepl:
    """A REPL in a child process of this backend; implements `protocol.Repl`."""

    def __init__(self, backend: Backend, clock: Clock | None = None) -> None:
        self.backend = backend
        self._clock = clock or SystemClock()
        self._opened: _Opened | None = None
        self._life: Life | None = None

    async def open(self, context: ContextSource, limits: CellLimits, on_calls: OnCalls) -> None:
        try:
            self._opened = await self._laid_out(context, limits, on_calls)
            self._life = await self._begin(self._opened)
        except BaseException:
            await self.close()
            raise

    async def run(self, code: str, *, seconds: float | None = None) -> CellOutcome:
        opened, life = await self._ready()
        if len(code) > _CODE_CHARS:
            return _not_run("refused", f"A cell of {len(code)} characters is too long; {_CODE_CHARS} is the most.")
        limits = opened.limits
        output = min(limits.output_bytes, _OUTPUT_BYTES)
        message: dict[str, object] = {"type": "run", "code": code, "output_bytes": output, "calls": limits.calls}
        within_s = _least(limits.seconds, seconds)
        try:
            ended, used_s = await life.cell(message, within_s, limits.calls, self._rss_bytes(opened), output)
        except MalformedError:
            return _not_run("syntax", "The cell holds characters that are no Unicode text.")
        except asyncio.CancelledError:
            # Nobody waits for the cell any more, but its code still runs.
            await self._end()
            raise
        if isinstance(ended, wire.Done):
            return wire.outcome(ended, used_s, output)
        how = await self._end()
        kind: ErrorKind = ended.kind if isinstance(ended, Stopped) else "died"
        text = ended.text if isinstance(ended, Stopped) and ended.text else f"The sandbox {how}."
        text += f" {_LOST}"
        stdout, stderr = life.printed.text("stdout"), life.printed.text("stderr")
        return CellOutcome(stdout, stderr, False, CellError(kind, text), used_s, None, ())

    async def value(self, name: str, *, seconds: float | None = None) -> Answer:
        opened, life = await self._ready()
        message: dict[str, object] = {"type": "value", "name": name.encode("utf-8", "replace").decode()}
        answer = await life.ask(message, _least(opened.limits.seconds, seconds))
        if not isinstance(answer, wire.Value):
            await self._end()
            raise SandboxError(f"the sandbox ended over it. {_LOST}")
        if not answer.found:
            raise UnknownVariableError(f"the REPL has no variable {name[:100]!r}", hint="SHOW_VARS() lists them.")
        if answer.fault:
            raise SandboxError(answer.fault[:_FAULT_CHARS])
        return Answer(answer.text, ready=True, partial=answer.lacks)

    async def close(self) -> None:
        opened, self._opened = self._opened, None
        try:
            await self._end()
        finally:
            # Even if this is cancelled meanwhile: the folder holds the context.
            if opened is not None:
                await asyncio.to_thread(opened.made.remove)

    async def _laid_out(self, context: ContextSource, limits: CellLimits, on_calls: OnCalls) -> "_Opened":
        made: ReplFolder | None = None
        try:
            made = ReplFolder()
            size = await asyncio.to_thread(_lay_out, made.path, context)
        except BaseException as error:
            if made is not None:
                made.remove()
            if isinstance(error, OSError):
                raise SandboxError(
                    f"the context cannot be laid out for the sandbox: {refusal(error)}",
                    hint=(
                        "Its files must stay until the run has ended, and copies need space in the temporary folder."
                    ),
                ) from error
            raise
        return _Opened(made, context, size, limits, on_calls)

    async def _ready(self) -> "tuple[_Opened, Life]":
        if self._opened is None:
            raise SandboxError("this REPL is not open")
        if self._life is None:
            self._life = await self._begin(self._opened)
        return self._opened, self._life

    async def _begin(self, opened: "_Opened") -> Life:
        hello: dict[str, object] = {
            "type": "open",
            "context": opened.context.kind,
            "files": [(file.name, str(_place(opened.folder, n))) for n, file in enumerate(opened.context.files)],
            "memory_bytes": opened.limits.memory_bytes,
            "context_bytes": opened.context_bytes,
        }
        return await Life.start(self.backend, str(opened.folder), hello, opened.on_calls, self._clock)

    async def _end(self) -> str:
        life, self._life = self._life, None
        return "was not running" if life is None else await life.end()

    def _rss_bytes(self, opened: "_Opened") -> int | None:
        overhead = self.backend.overhead_bytes
        if overhead is None:
            return None
        return overhead + opened.limits.memory_bytes + _CONTEXT_GROWTH * opened.context_bytes


@dataclass(frozen=True, slots=True)
class _Opened:
    """What an open REPL needs to start a child.

    `context_bytes` is the size of the links and copies in the folder `made`, since the files may be gone meanwhile.
    """

    made: ReplFolder
    context: ContextSource
    context_bytes: int
    limits: CellLimits
    on_calls: OnCalls

    @property
    def folder(self) -> Path:
        return self.made.path


def _least(limit: float, seconds: float | None) -> float:
    return limit if seconds is None else min(limit, seconds)


def _not_run(kind: ErrorKind, text: str) -> CellOutcome:
    return CellOutcome("", "", False, CellError(kind, text), 0.0, None, ())


def _place(folder: Path, number: int) -> Path:
    return folder / "context" / str(number)


def _lay_out(folder: Path, context: ContextSource) -> int:
    """Links or copies the context's files into the REPL's folder, named by number; their size in bytes."""
    (folder / "context").mkdir()
    (folder / "replies").mkdir()
    size = 0
    for number, file in enumerate(context.files):
        source, place = file.path.resolve(), _place(folder, number)
        try:
            os.link(source, place)
        except OSError:  # on another disk
            shutil.copyfile(source, place)
        size += place.stat().st_size
    return size
