"""What a REPL is, in values: the seam between the RLM loop and the sandboxes that run its code.

A REPL holds the prompt as the variable `context` and runs one cell at a time. Names in it are those of the paper's
engine (arXiv 2512.24601): `llm_query`, `llm_query_batched`, `rlm_query`, `rlm_query_batched`, `SHOW_VARS` and
`answer = {"content": "", "ready": False}`; and also `llm_batch`, `SUBMIT`, `FINAL` and `FINAL_VAR`.

Everything in an outcome was written by code that is not trusted: text and numbers, bounded, never objects.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pylon.errors import SandboxError

MIB = 1024 * 1024

ErrorKind = Literal["exception", "syntax", "time", "memory", "calls", "refused", "died"]
CallKind = Literal["llm", "rlm"]


class UnknownVariableError(SandboxError):
    """The REPL has no variable of that name."""


@dataclass(frozen=True, slots=True)
class CellLimits:
    """What one cell may use.

    `seconds` is time in which the code itself runs: waiting for sub-calls is not counted, since how long the swarm
    takes is the budget's business. `memory_bytes` is what the REPL may hold beyond its context. `output_bytes`
    bounds standard output and standard error each; `calls` is the number of prompts sent.
    """

    seconds: float = 60.0
    memory_bytes: int = 512 * MIB
    output_bytes: int = MIB
    calls: int = 10_000


@dataclass(frozen=True, slots=True)
class ContextFile:
    """`name` is what the code sees, `path` a UTF-8 file on this machine."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class ContextSource:
    """What `context` becomes in the REPL, by file, so that no copy of it passes through this process.

    `text`: one file, a str (bytes that are no UTF-8 become U+FFFD). `json`: one file, whatever it holds. `files`: a
    dict from name to text. The files must stay as they are until the REPL is closed.
    """

    kind: Literal["text", "json", "files"]
    files: tuple[ContextFile, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The REPL's `answer` variable, or what SUBMIT, FINAL or FINAL_VAR made of it. `partial` says what it lacks: the
    code has said so, or it is longer than 2 MiB as JSON and was cut."""

    content: str
    ready: bool
    partial: str = ""


@dataclass(frozen=True, slots=True)
class Variable:
    """`type` is the class's name, `preview` the start of its repr, `size` its len, or None where it has none."""

    name: str
    type: str
    preview: str
    size: int | None


@dataclass(frozen=True, slots=True)
class CellError:
    """Why a cell did not end well; `text` is for the root model to read.

    `calls`: the cell ran on, but calls over its limit got an error in their slot. `memory` and `exception`: variables
    stand. `time` and `died`: `text` says whether they do. `refused`: the code uses something that this backend
    cannot do, and nothing of it ran.
    """

    kind: ErrorKind
    text: str


@dataclass(frozen=True, slots=True)
class CellOutcome:
    """`truncated` tells that output went over the limit; `seconds` is the cell's time without its sub-calls'."""

    stdout: str
    stderr: str
    truncated: bool
    error: CellError | None
    seconds: float
    answer: Answer | None
    variables: tuple[Variable, ...]

    @property
    def gives_answer(self) -> bool:
        """Whether its answer ends the loop. What a cell that failed has left is half of something; calls over the
        limit failed by themselves, in their slots."""
        return self.answer is not None and self.answer.ready and (self.error is None or self.error.kind == "calls")


@dataclass(frozen=True, slots=True)
class SubCalls:
    """Prompts that the code sent at once; `model` is what it asked for, if anything.

    They may be answered in any order and all at once. Whoever answers them may ask equal prompts once only, at
    temperature 0, where that changes nothing.
    """

    kind: CallKind
    prompts: tuple[str, ...]
    model: str | None


@dataclass(frozen=True, slots=True)
class SubReply:
    """A failed sub-call has an `error_code` and says in `text` what happened: in the REPL a SubCallError, a str.

    `finish` is why the answer ended, as `Answer.finish` of the swarm: `length` and `size` tell that it was cut off,
    and `partial` that the loop which gave it came to no whole one.
    """

    text: str
    error_code: str | None = None
    finish: str | None = None


# Gives one reply a prompt, in the prompts' order. May be running many times at once. What it raises becomes an
# `internal` error in each slot.
type OnCalls = Callable[[SubCalls], Awaitable[Sequence[SubReply]]]


class Repl(Protocol):
    """One sandboxed Python with its variables. Calls of one REPL do not overlap; many REPLs run beside each other."""

    async def open(self, context: ContextSource, limits: CellLimits, on_calls: OnCalls) -> None:
        """Starts it and loads the context. Raises SandboxError."""

    async def run(self, code: str, *, seconds: float | None = None) -> CellOutcome:
        """Runs one cell; `seconds` takes the place of its limits' where that is less.

        Works again after any outcome: where variables were lost, the outcome says so.
        """

    async def variables(self) -> tuple[Variable, ...]:
        """What the code has defined, without what was there at the start. Raises SandboxError."""

    async def value(self, name: str) -> Answer:
        """A variable as an answer, for FINAL_VAR. Raises UnknownVariableError where there is none of that name.

        Raises SandboxError where it cannot be made text, or the sandbox ended over that: the message says which.
        """

    async def close(self) -> None:
        """Ends it. May be called at any time, more than once, and while a cell runs."""
