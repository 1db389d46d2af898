"""Standard input, which whoever started the command may have closed, and which may hold anything.

It is read in a thread that Ctrl-C lets go of: a read that waits for somebody who types would hold the command until
the second one.
"""

import asyncio
import codecs
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from pylon.errors import UsageError

_LOOK_S = 0.1
_PIECE = 1 << 20


class StandardInput:
    """See the module."""

    def __init__(self) -> None:
        self._stream = binary()
        self._let_go = False

    def read(self, size: int) -> bytes:
        """Up to so many bytes, and none at the end, or when whoever read has gone. Raises `UsageError`."""
        if self._stream is None:
            raise UsageError("standard input is closed")
        try:
            descriptor = self._stream.fileno()
        except OSError:
            # A program that runs a command in its own process may put a stream there that is in memory: it is whole.
            return self._stream.read(size)
        while not self._let_go:
            if select.select([descriptor], [], [], _LOOK_S)[0]:
                return os.read(descriptor, size)
        return b""

    async def text(self) -> str:
        """All of it. Raises `UsageError` for what is no text."""
        return decoded(await self._read(self._all), "standard input")

    async def line(self, *, exact: bool = False) -> str:
        """What a person types until the end of a line; empty where nothing comes.

        Raises `UsageError`, and with `exact` for what is no text too.
        """
        line = await self._read(self._line)
        return decoded(line, "standard input") if exact else line.decode(errors="replace")

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Whoever reads in it is let go at its end."""
        try:
            yield
        finally:
            self._let_go = True

    async def _read(self, part: Callable[[], bytes]) -> bytes:
        with self.in_use():
            return await asyncio.to_thread(part)

    def _all(self) -> bytes:
        return b"".join(iter(lambda: self.read(_PIECE), b""))

    def _line(self) -> bytes:
        line = b""
        # No further than it goes: what follows is for whoever reads next.
        while not line.endswith(b"\n") and (more := self.read(1)):
            line += more
        return line


def binary() -> BinaryIO | None:
    """Its bytes; None where there is none."""
    # None to Python too, whatever its type says, where it was closed.
    return sys.stdin.buffer if sys.stdin else None


async def text() -> str:
    """All of it, for an argument that is `-`. Raises `UsageError` for what is no text."""
    return await StandardInput().text()


async def line(*, exact: bool = False) -> str:
    """What a person types until the end of a line; empty where nothing comes. With `exact` it raises `UsageError` for
    what is no text."""
    return "" if binary() is None else await StandardInput().line(exact=exact)


def is_terminal() -> bool:
    """Whether a person may be typing."""
    return sys.stdin is not None and sys.stdin.isatty()


def decoded(data: bytes, name: str) -> str:
    """What was read of `name`, as text. Raises `UsageError` that says in which line it is none."""
    # What some editors save begins with it.
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{name}:{line}: this is not UTF-8 text", hint="Save it as UTF-8.") from error
