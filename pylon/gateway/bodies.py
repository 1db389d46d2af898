"""Bodies of requests: read whole, up to a size each, and up to a size of all that are in hand."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from pylon.gateway.problems import BUSY_S, Problem

# Whoever sends more slowly holds memory for it.
SLOWEST_S = 120.0
# In multiples of the largest body.
_TOGETHER = 16


class Bodies:
    """`most` bytes a body."""

    def __init__(self, most: int) -> None:
        self.held = 0
        self._most = most

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The body, which counts as held within. Raises `Problem`."""
        told = request.headers.get("content-length", "0")
        if told.isascii() and told.isdigit() and len(told) < 20 and int(told) > self._most:
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(SLOWEST_S):
                async for piece in request.stream():
                    body += piece
                    self.held += len(piece)
                    if len(body) > self._most:
                        raise self._too_large()
                    if self.held > _TOGETHER * self._most:
                        raise Problem(503, "busy", "requests under way hold all the memory there is", retry_s=BUSY_S)
            yield bytes(body)
        except TimeoutError:
            raise Problem(408, "too_slow", f"the body did not come within {SLOWEST_S:.0f} seconds") from None
        except ClientDisconnect:
            raise Problem(400, "cut_off", "the body ended before it was whole") from None
        finally:
            self.held -= len(body)

    def _too_large(self) -> Problem:
        return Problem(413, "too_large", f"a body has at most {self._most:,} bytes here (`gateway.max_body_mb`)")
