"""The messages that a sandbox sends to its host, checked field by field: hostile code may have forged any of them."""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from pylon.errors import MalformedError
from pylon.rlm.repl.protocol import Answer, CallKind, CellError, CellOutcome, ErrorKind, Variable

_MAX_VARIABLES = 500
# The most JSON values of a message, without prompts: a cell's outcome, with four for each variable.
_MOST_VALUES = 6 * _MAX_VARIABLES
_TOO_MANY = "A message from the sandbox holds more values than any may."
# A JSON string; one without a closing quote extends to the end, so that the search stays linear.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.?+)*+(?:"|\Z)', re.DOTALL)

type Name = Annotated[str, Field(max_length=200)]


class _Message:
    """Base of messages: fields that they do not declare are errors."""

    __slots__ = ()
    __pydantic_config__ = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Ready(_Message):
    """The sandbox has started and loaded its context."""

    type: Literal["ready"]


@dataclass(frozen=True, slots=True)
class Unable(_Message):
    """The sandbox cannot start."""

    type: Literal["unable"]
    text: Annotated[str, Field(max_length=2000)]
    hint: Annotated[str, Field(max_length=2000)] = ""
    # Whether the reason is that the context is not of the kind it was declared to be.
    context: bool = False


@dataclass(frozen=True, slots=True)
class Asked(_Message):
    """A request for sub-calls."""

    type: Literal["calls"]
    # Only sent back with the replies.
    id: Annotated[str, Field(pattern="^c[0-9]{1,12}$")]
    kind: CallKind
    prompts: list[str]
    model: Name | None


@dataclass(frozen=True, slots=True)
class SentVariable:
    name: Name
    type: Name
    preview: Name
    size: Annotated[int, Field(ge=0)] | None


@dataclass(frozen=True, slots=True)
class SentError:
    kind: ErrorKind
    text: str


@dataclass(frozen=True, slots=True)
class SentAnswer:
    content: str
    ready: bool
    partial: Annotated[str, Field(max_length=2000)] = ""


@dataclass(frozen=True, slots=True)
class Done(_Message):
    """The outcome of a cell."""

    type: Literal["done"]
    stdout: str
    stderr: str
    truncated: bool
    error: SentError | None
    answer: SentAnswer | None
    variables: Annotated[list[SentVariable], Field(max_length=_MAX_VARIABLES)]


@dataclass(frozen=True, slots=True)
class Printed(_Message):
    """What a running cell has printed since the last such message. It counts only if the cell has to be ended."""

    type: Literal["printed"]
    stream: Literal["stdout", "stderr"]
    text: str


@dataclass(frozen=True, slots=True)
class Value(_Message):
    """The text of a variable, and what it lacks. `fault` says why a variable that was found has no text."""

    type: Literal["value"]
    found: bool
    text: str
    lacks: Annotated[str, Field(max_length=2000)] = ""
    fault: str = ""


FromSandbox = Ready | Unable | Asked | Printed | Done | Value

_from_sandbox: TypeAdapter[FromSandbox] = TypeAdapter(Annotated[FromSandbox, Field(discriminator="type")])


def check_value_count(body: bytearray, most_prompts: int) -> None:
    """Raises MalformedError for JSON of more values than a message may hold, before it is parsed.

    Parsing millions of empty lists would block the process for seconds.
    """
    most = 2 * (_MOST_VALUES + most_prompts)
    if _signs(body) <= most:
        return
    rest, strings = _STRING.subn(b"", body, count=most + 1)
    if strings > most or _signs(rest) > most:
        raise MalformedError(_TOO_MANY)


def _signs(text: bytes | bytearray) -> int:
    # At least as many as there are values; an empty list or object counts one more.
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def from_sandbox(message: dict[str, object], *, most_prompts: int) -> FromSandbox:
    """A message, checked. Raises MalformedError.

    The number of values is checked first: validating millions of wrong fields would make an error of each.
    """
    if _values_over(message, _MOST_VALUES + most_prompts):
        raise MalformedError(_TOO_MANY)
    try:
        return _from_sandbox.validate_python(message)
    except ValidationError as error:
        raise MalformedError(f"a message from the sandbox has {error.error_count()} wrong fields") from None


def _values_over(message: dict[str, object], most: int) -> bool:
    level: list[dict[str, object] | list[object]] = [message]
    while level:
        most -= sum(map(len, level))
        if most < 0:
            return True
        inner = (value for one in level for value in (one.values() if isinstance(one, dict) else one))
        level = [value for value in inner if isinstance(value, dict | list)]
    return False


def outcome(done: Done, seconds: float, output_bytes: int) -> CellOutcome:
    """The outcome of a cell for the loop, with its output cut to the limit in case the sandbox has not done so."""
    stdout, stderr = _cut(done.stdout, output_bytes), _cut(done.stderr, output_bytes)
    return CellOutcome(
        stdout=stdout,
        stderr=stderr,
        truncated=done.truncated or len(stdout) < len(done.stdout) or len(stderr) < len(done.stderr),
        error=None if done.error is None else CellError(done.error.kind, _cut(done.error.text, output_bytes)),
        seconds=seconds,
        answer=None if done.answer is None else _answer(done.answer),
        variables=_variables(done.variables),
    )


def _answer(sent: SentAnswer) -> Answer:
    return Answer(sent.content, sent.ready, sent.partial)


def _variables(sent: list[SentVariable]) -> tuple[Variable, ...]:
    return tuple(Variable(one.name, one.type, one.preview, one.size) for one in sent)


def _cut(text: str, most_bytes: int) -> str:
    if len(text) * 4 <= most_bytes:
        return text
    return text.encode("utf-8", "replace")[:most_bytes].decode("utf-8", "ignore")


class RunningOutput:
    """What a running cell has printed so far, up to `output_bytes` for each stream."""

    def __init__(self, output_bytes: int) -> None:
        self._parts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._limit = output_bytes
        self._room = 2 * output_bytes

    def take(self, printed: Printed) -> bool:
        """Adds a message. False if it is more than a cell may print: our own guest drops that by itself."""
        # An empty message counts as well: otherwise there could be any number of them.
        self._room -= max(1, len(printed.text))
        self._parts[printed.stream].append(printed.text)
        return self._room >= 0

    def text(self, stream: Literal["stdout", "stderr"]) -> str:
        return _cut("".join(self._parts[stream]), self._limit)
