"""Standard input, which whoever started the command may have closed, and which may hold anything."""

import sys
from typing import BinaryIO

import typer


def binary() -> BinaryIO | None:
    """Its bytes; None where there is none."""
    # None to Python too, whatever its type says, where it was closed.
    return sys.stdin.buffer if sys.stdin else None


def text(argument: str) -> str:
    """All of it, for an argument that is `-`. Raises `BadParameter` for what is no text."""
    stream = binary()
    if stream is None:
        raise typer.BadParameter("there is no standard input", param_hint=argument)
    try:
        return stream.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise typer.BadParameter("standard input is not UTF-8 text", param_hint=argument) from error
