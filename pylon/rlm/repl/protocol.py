"""The interface of a REPL, between the RLM loop and the sandboxes that run the root model's code.

A REPL holds the prompt as the variable `context` and runs one cell of code at a time. The names that it gives the
code are those of the paper's engine (arXiv 2512.24601): `llm_query`, `llm_query_batched`, `rlm_query`,
`rlm_query_batched`, `SHOW_VARS` and `answer = {"content": "", "ready": False}`; and also `llm_batch`, `SUBMIT`,
`FINAL` and `FINAL_VAR`.

Everything in an outcome was written by code that is not trusted. It is text and numbers of bounded size.
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

    `seconds` is the time in which its own code runs, without waiting for sub-calls, whose time the budget limits.
    `memory_bytes` is what the REPL may hold beyond its context. `output_bytes` limits standard output and standard
    error, each by itself; `calls` is the number of prompts that may be sent.
    """

    seconds: float = 60.0
    memory_bytes: int = 512 * MIB
    output_bytes: int = MIB
    calls: int = 10_000


@dataclass(frozen=True, slots=True)
class ContextFile:
    """One file of a context: `name` is what the code sees, `path` a UTF-8 file on this machine."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class ContextSource:
    """The files from which the REPL makes `context`, so that their text does not pass through this process.

    `kind` says what `context` is: `text`, the str in the one file (bytes that are not UTF-8 become U+FFFD); `json`,
    the value in the one file; `files`, a dict from names to texts. The files must stay unchanged until the REPL is
    closed.
    """

    kind: Literal["text", "json", "files"]
    files: tuple[ContextFile, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The REPL's `answer` variable, which the code or SUBMIT, FINAL or FINAL_VAR has set.

    `partial` says what the answer lacks, if anything: the code has said so, or it was cut at 2 MiB of JSON.
    """

    content: str
    ready: bool
    partial: str = ""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of the REPL: the name of its class, the start of its repr, and its len, None if it has none."""

    name: str
    type: str
    preview: str
    size: int | None


@dataclass(frozen=True, slots=True)
class CellError:
    """Why a cell failed; `text` is for the root model.

    `calls`: the cell went on, but sub-calls over its limit got an error instead of an answer. `memory` and
    `exception`: the variables are kept. `time` and `died`: `text` says whether they are. `refused`: the backend
    cannot run this code, and ran none of it.
    """

    kind: ErrorKind
    text: str


@dataclass(frozen=True, slots=True)
class CellOutcome:
    """What a cell has done.

    `truncated` tells whether output was dropped at the limit; `seconds` is the time that the cell's own code took.
    """

    stdout: str
    stderr: str
    truncated: bool
    error: CellError | None
    seconds: float
    answer: Answer | None
    variables: tuple[Variable, ...]

    @property
    def gives_answer(self) -> bool:
        """Whether its answer ends the loop. The answer of a cell that failed does not count, except where only
        sub-calls over the limit have failed."""
        return self.answer is not None and self.answer.ready and (self.error is None or self.error.kind == "calls")


@dataclass(frozen=True, slots=True)
class SubCalls:
    """Prompts that the code has sent together; `model` is the model it asked for, if any.

    They may be answered in any order, and at the same time. Equal prompts may be asked only once if that changes
    nothing, which is so at temperature 0.
    """

    kind: CallKind
    prompts: tuple[str, ...]
    model: str | None


@dataclass(frozen=True, slots=True)
class SubReply:
    """The answer to one prompt, or, with an `error_code`, a text that says why there is none.

    In the REPL a failure becomes a SubCallError, which is a str. `finish` is why the answer ended, as in the swarm's
    `Answer.finish`: `length` and `size` if it was cut off, `partial` if the loop that gave it did not complete it.
    """

    text: str
    error_code: str | None = None
    finish: str | None = None


# Answers sub-calls: one reply for each prompt, in their order. May be called again before it has returned. If it
# raises, each prompt gets an error reply.
type OnCalls = Callable[[SubCalls], Awaitable[Sequence[SubReply]]]


class Repl(Protocol):
    """A sandboxed Python with its variables.

    The methods of one REPL must not be called at the same time; several REPLs may run beside each other.
    """

    async def open(self, context: ContextSource, limits: CellLimits, on_calls: OnCalls) -> None:
        """Starts the sandbox and loads the context. Raises SandboxError."""

    async def run(self, code: str, *, seconds: float | None = None) -> CellOutcome:
        """Runs one cell; `seconds` lowers the limit of its time.

        May be called again after any outcome. If variables were lost, the outcome says so.
        """

    async def value(self, name: str, *, seconds: float | None = None) -> Answer:
        """The value of a variable as an answer, for FINAL_VAR; `seconds` lowers the limit of the time that it takes
        to make it text.

        Raises UnknownVariableError if there is no such variable, and SandboxError if it cannot be made text, or if
        the sandbox has ended over that.
        """

    async def close(self) -> None:
        """Ends the sandbox. May be called at any time, more than once, and while a cell runs."""
