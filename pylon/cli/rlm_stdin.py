"""Standard input of `pylon rlm`, read in a thread that Ctrl-C lets go of.

A read that waits for somebody who types would hold the command until the second Ctrl-C.
"""

import asyncio
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager

from pylon.cli import stdin
from pylon.errors import UsageError

_LOOK_S = 0.1
_PIECE = 1 << 20


class StandardInput:
    """See the module."""

    def __init__(self) -> None:
        self._stream = stdin.binary()
        self._let_go = False

    def read(self, size: int) -> bytes:
        """Up to so many bytes, and none at the end, or when whoever read has gone. Raises `UsageError`."""
        if self._stream is None:
            raise UsageError("there is no standard input")
        while not self._let_go:
            if select.select([self._stream], [], [], _LOOK_S)[0]:
                return os.read(self._stream.fileno(), size)
        return b""

    async def text(self) -> str:
        """All of it. Raises `UsageError` for what is no text."""
        with self.in_use():
            data = await asyncio.to_thread(lambda: b"".join(iter(lambda: self.read(_PIECE), b"")))
        return stdin.decoded(data, "standard input")

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Whoever reads in it is let go at its end."""
        try:
            yield
        finally:
            self._let_go = True
