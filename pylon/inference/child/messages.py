"""The messages between the node and its inference child, each one frame."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from pylon.errors import MalformedError
from pylon.inference.engine import (
    EngineSpec,
    Failed,
    Finished,
    GenerationRequest,
    ModelInfo,
    Progress,
    Scored,
    ScoreRequest,
)
from pylon.records import record

# The exit code of a child that ran out of memory: to tell so takes no memory.
OUT_OF_MEMORY = 71


@dataclass(frozen=True, slots=True)
class Load:
    """The first message to a child: the engine and model to load.

    `scratch` is a private folder for its temporary files; the child removes it when the node is gone.
    """

    spec: EngineSpec
    scratch: Path
    type: Literal["load"] = "load"


@record
class Generate:
    """Answer this request."""

    request: GenerationRequest
    type: Literal["generate"] = "generate"


@dataclass(frozen=True, slots=True)
class Score:
    """Rank this answer."""

    request: ScoreRequest
    type: Literal["score"] = "score"


@dataclass(frozen=True, slots=True)
class Cancel:
    """Drop this request."""

    id: str
    type: Literal["cancel"] = "cancel"


@dataclass(frozen=True, slots=True)
class Close:
    """Free the model and end."""

    type: Literal["close"] = "close"


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded."""

    model: ModelInfo
    type: Literal["ready"] = "ready"


# When to try again after a failed load: soon, as after a crash (a server that it needs may still be starting); when
# there is more free memory; or never.
type Again = Literal["soon", "with room", "never"]


@dataclass(frozen=True, slots=True)
class Unloadable:
    """The model cannot be loaded now; the child ends."""

    message: str
    hint: str
    again: Again
    type: Literal["unloadable"] = "unloadable"


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life from the loop that steps the engine, with the token counts. `busy_s` is seconds with work."""

    prompt_tokens: int
    completion_tokens: int
    busy_s: float
    read_tokens: int = 0
    type: Literal["beat"] = "beat"


@dataclass(frozen=True, slots=True)
class Compiling:
    """The request whose JSON schema is being compiled: if the child ends meanwhile, that was the cause."""

    id: str | None
    type: Literal["compiling"] = "compiling"


ToChild = Load | Generate | Score | Cancel | Close
FromChild = Ready | Unloadable | Beat | Compiling | Progress | Finished | Scored | Failed

_to_child: TypeAdapter[ToChild] = TypeAdapter(Annotated[ToChild, Field(discriminator="type")])
_from_child: TypeAdapter[FromChild] = TypeAdapter(Annotated[FromChild, Field(discriminator="type")])


def to_child(message: dict[str, object]) -> ToChild:
    """Raises MalformedError."""
    return _parsed(_to_child, message)


def from_child(message: dict[str, object]) -> FromChild:
    """Raises MalformedError."""
    return _parsed(_from_child, message)


def _parsed[T](adapter: TypeAdapter[T], message: dict[str, object]) -> T:
    try:
        return adapter.validate_python(message)
    except ValidationError as error:
        # Not chained: pydantic's text quotes the values, and they may be a prompt or an answer.
        raise MalformedError(f"a message on the child's pipe has {error.error_count()} wrong fields") from None
