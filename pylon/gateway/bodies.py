"""Reads request bodies whole, with limits on the size of each and of all that are held at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from pylon.gateway.problems import BUSY_S, Problem

# The longest that a body may take to arrive: it holds memory meanwhile.
SLOWEST_S = 120.0
# The limit on all bodies together, in multiples of the largest. Most are far smaller: thousands are held at once.
_TOGETHER = 128
# JSON is parsed in one step while everything else waits, in time proportional to its values, which these characters
# count. A job's text is 64 KiB at most, so no request that providers can take has more.
MOST_MARKS = 200_000
_MARKS = (b"[", b"{", b",", b":")


class Bodies:
    """Each body has at most `most` bytes and arrives within `slowest_s` seconds; all together hold at most `together`
    times `most` bytes. None: no limit, for small bodies, which hold less memory than their connections, and those are
    limited.
    """

    def __init__(self, most: int, *, slowest_s: float = SLOWEST_S, together: int | None = _TOGETHER) -> None:
        self.held = 0
        self._most = most
        self._slowest_s = slowest_s
        self._most_held = None if together is None else together * most

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The body, which counts as held inside the `async with`. Raises `Problem` (400, 408, 413 or 503)."""
        told = request.headers.get("content-length", "0")
        if told.isascii() and told.isdigit() and len(told) < 20 and int(told) > self._most:
            raise self._too_large()
        body, size, marks = bytearray(), 0, 0
        try:
            async with asyncio.timeout(self._slowest_s):
                async for piece in request.stream():
                    size += len(piece)
                    marks += sum(map(piece.count, _MARKS))
                    if size > self._most:
                        raise self._too_large()
                    if marks > MOST_MARKS:
                        # Read to its end, so that the client reads the answer, but not kept.
                        self.held -= len(body)
                        body.clear()
                        continue
                    body += piece
                    self.held += len(piece)
                    if self._most_held is not None and self.held > self._most_held:
                        raise Problem(
                            503, "busy", "requests in progress use all available memory", retry_s=BUSY_S, again=True
                        )
            if marks > MOST_MARKS:
                raise Problem(413, "too_large", f"a body may hold about {MOST_MARKS // 2:,} values at most")
            yield bytes(body)
        except TimeoutError:
            raise Problem(408, "too_slow", f"the body did not arrive within {self._slowest_s:.0f} seconds") from None
        except ClientDisconnect:
            raise Problem(400, "cut_off", "the body is incomplete") from None
        finally:
            self.held -= len(body)

    def _too_large(self) -> Problem:
        return Problem(413, "too_large", f"a body may have at most {self._most:,} bytes (`gateway.max_body_mb`)")
