"""Callbacks: functions that callers pass in, checked before anything is asked, and called so that their faults are
reported as theirs."""

import inspect
from asyncio import CancelledError
from collections.abc import Callable
from typing import Any

from pylon.errors import UsageError

_HINT = "Give a plain function. If it has to wait for something, let it put that into a queue."
# Raised inside a coroutine these mean something else: whoever awaits it would see a cancellation, or nothing.
_OTHERWISE = (StopIteration, StopAsyncIteration, GeneratorExit, CancelledError)


def check_callbacks(**functions: Any) -> None:
    """Raises `TypeError` for what cannot be called, and for an `async def`, which nobody would await."""
    for name, function in functions.items():
        if function is None:
            continue
        if not callable(function):
            raise TypeError(f"{name} must be a function, not {type(function).__name__}")
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
            raise TypeError(f"{name} must not be an async function, because nothing awaits it. {_HINT}")


def call(function: Callable[..., object], *given: object) -> None:
    """Calls it. Raises what it raises; `UsageError` where that would end something else, and for one that gives a
    coroutine, which nobody awaits."""
    try:
        made = function(*given)
    except _OTHERWISE as error:
        said = f"a callback function raised {type(error).__name__}"
        raise UsageError(said, hint="Let it raise a different type of error.") from error
    if inspect.iscoroutine(made):
        made.close()
        raise UsageError("a callback function is async, and nothing awaits it", hint=_HINT)
