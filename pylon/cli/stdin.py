"""Reads standard input, which may be closed, a terminal, or hold anything.

It is read in a thread that looks for input in short steps. A read that waited for a person to type would keep the
command from ending at Ctrl-C.
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

# The longest that a read goes on after it was let go, in seconds.
_LOOK_S = 0.1
_PIECE_BYTES = 1 << 20


class StandardInput:
    """Standard input, of which one text or line is read. See the module."""

    def __init__(self) -> None:
        self._stream = binary()
        self._let_go = False

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end, or once `in_use` is left. Raises `UsageError` if it is closed."""
        if self._stream is None:
            raise UsageError("standard input is closed")
        try:
            descriptor = self._stream.fileno()
        except OSError:
            # A stream in memory, put there by a program that runs a command in its own process. It never waits.
            return self._stream.read(size)
        while not self._let_go:
            if select.select([descriptor], [], [], _LOOK_S)[0]:
                return os.read(descriptor, size)
        return b""

    async def text(self) -> str:
        """All of it. Raises `UsageError` if it is closed or not UTF-8."""
        return decoded(await self._read(self._all), "standard input")

    async def line(self, *, exact: bool = False) -> str:
        """One line, with its line end; empty at the end of input.

        Raises `UsageError` if the input is closed or, with `exact`, not UTF-8.
        """
        line = await self._read(self._line)
        return decoded(line, "standard input") if exact else line.decode(errors="replace")

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """When it is left, a read that still waits for input ends."""
        try:
            yield
        finally:
            self._let_go = True

    async def _read(self, part: Callable[[], bytes]) -> bytes:
        with self.in_use():
            return await asyncio.to_thread(part)

    def _all(self) -> bytes:
        return b"".join(iter(lambda: self.read(_PIECE_BYTES), b""))

    def _line(self) -> bytes:
        line = b""
        # Byte by byte: what follows the line is for the next read.
        while not line.endswith(b"\n") and (more := self.read(1)):
            line += more
        return line


def binary() -> BinaryIO | None:
    """Standard input as a stream of bytes; None if it is closed."""
    # Python sets it to None then, which its type does not say.
    return sys.stdin.buffer if sys.stdin else None


async def text() -> str:
    """All of standard input, for an argument that is `-`. Raises `UsageError` if it is closed or not UTF-8."""
    return await StandardInput().text()


async def line(*, exact: bool = False) -> str:
    """One line of standard input, with its line end; empty at its end, or if it is closed. Raises `UsageError` with
    `exact` if the line is not UTF-8."""
    return "" if binary() is None else await StandardInput().line(exact=exact)


def is_terminal() -> bool:
    """Whether standard input is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


def decoded(data: bytes, name: str) -> str:
    """The text of bytes that were read from `name`. Raises `UsageError` with the line that is not UTF-8."""
    # Some editors begin a file with a byte order mark.
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{name}:{line}: this is not UTF-8 text", hint="Save it as UTF-8.") from error
