"""The control protocol: calls of the process that owns a home, and their answers, as lines of JSON.

    → {"call": "map", "params": {…}}
    ← {"event": {…}}                      any number
    ← {"result": {…}}                     or {"error": {"type", "message", "hint"}}

One call has a connection of its own (`client`), or many share one (`channel`, `numbered`). A client that hangs up
cancels its calls. A long list follows its call, or its result, in pieces (`long_lists`).
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from pylon import errors
from pylon.errors import PylonError, UnreachableError


@dataclass(frozen=True, slots=True)
class Event:
    """A piece of news during a call."""

    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a call, its last answer."""

    data: dict[str, Any]


type Answers = AsyncGenerator[Event | Result]
type Method = Callable[[dict[str, Any]], Answers]


class Node(Protocol):
    """A core that can be called: in this process, or in another over its socket."""

    def call(self, method: str, params: dict[str, Any] | None = None) -> Answers:
        """Calls a method: yields its events and then its `Result`. Raises the `PylonError` that it failed with."""


async def result_of(node: Node, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    """The result of a call, without its events. Raises as the call does."""
    async with aclosing(node.call(method, params)) as answers:
        async for answer in answers:
            if isinstance(answer, Result):
                return answer.data
    raise UnreachableError("the node ended before it answered")


def answer_in(said: object) -> Event | Result:
    """The event or result in a decoded line. Raises the error in it, or `UnreachableError` if it has none of
    these."""
    match said:
        case {"event": dict(data)}:
            return Event(data)
        case {"result": dict(data)}:
            return Result(data)
        case {"error": {"type": str(kind), "message": str(message), "hint": str(hint)}}:
            raise _error(kind, message, hint)
        case _:
            raise UnreachableError("the node's answer could not be understood")


def error_line(error: PylonError) -> dict[str, Any]:
    return {"error": {"type": type(error).__name__, "message": str(error), "hint": error.hint}}


def _error(kind: str, message: str, hint: str) -> PylonError:
    """The error of this class; a plain `PylonError` if a core of another version names one that is unknown here."""
    known = getattr(errors, kind, PylonError)
    if isinstance(known, type) and issubclass(known, PylonError):
        return known(message, hint=hint)
    return PylonError(message, hint=hint)
