"""Standard input, which whoever started the command may have closed, and which may hold anything."""

import codecs
import sys
from typing import BinaryIO

from pylon.errors import UsageError


def binary() -> BinaryIO | None:
    """Its bytes; None where there is none."""
    # None to Python too, whatever its type says, where it was closed.
    return sys.stdin.buffer if sys.stdin else None


def text() -> str:
    """All of it, for an argument that is `-`. Raises `UsageError` for what is no text."""
    stream = binary()
    if stream is None:
        raise UsageError("there is no standard input")
    return decoded(stream.read(), "standard input")


def is_terminal() -> bool:
    """Whether a person may be typing."""
    return sys.stdin is not None and sys.stdin.isatty()


def line() -> str:
    """What a person types until the end of a line; empty where nothing comes."""
    return "" if sys.stdin is None else sys.stdin.readline()


def decoded(data: bytes, name: str) -> str:
    """What was read of `name`, as text. Raises `UsageError` that says in which line it is none."""
    # What some editors save begins with it.
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{name}:{line}: this is not UTF-8 text", hint="Save it as UTF-8.") from error
