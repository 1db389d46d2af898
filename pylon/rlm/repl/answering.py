"""Answers the sub-calls of a sandbox, within the limits of a cell, and turns failures into error replies."""

import asyncio
from collections.abc import Callable, Sequence

from pylon import log
from pylon.errors import PylonError
from pylon.frames import encode
from pylon.rlm.repl.protocol import OnCalls, SubCalls, SubReply
from pylon.rlm.repl.wire import Asked
from pylon.tasks import Tasks

# Characters of all prompts that are being answered. Above this the sandbox's pipe is not read, so that it waits.
_PROMPT_CHARS = 128 * 1024 * 1024
# Characters of replies in one frame.
_PART_CHARS = 1024 * 1024
# Requests and prompts that are tolerated beyond a cell's limit. Our own guest sends some only when threads count at
# the same time or outlive their cell.
_SPARE = 1_000
# One reply must fit a frame, with every character escaped.
_REPLY_CHARS = 2 * 1024 * 1024
# Characters of JSON around each reply.
_AROUND_CHARS = 64

_log = log.get("rlm")


class Answering:
    """Answers the requests of one sandbox by `on_calls`.

    `send` sends a frame to the sandbox; `out` and `back` are called when a request begins and ends.
    """

    def __init__(
        self,
        on_calls: OnCalls,
        send: Callable[[bytes], None],
        out: Callable[[], None],
        back: Callable[[], None],
    ) -> None:
        self._on_calls = on_calls
        self._send = send
        self._out = out
        self._back = back
        self._left = 0
        self._most = 0
        self._requests_left = 0
        self._prompts_left = 0
        self._chars = 0
        self._room = asyncio.Event()
        self._room.set()
        self._tasks = Tasks()

    @property
    def most_prompts(self) -> int:
        """The most prompts that the next request may hold."""
        return self._prompts_left

    def start_cell(self, calls: int) -> None:
        """Begins to count for the next cell, which may make so many sub-calls."""
        self._left = calls
        # A thread may outlive its cell, and counts by the limit of that one.
        self._most = max(self._most, calls)
        self._requests_left = self._prompts_left = self._most + _SPARE

    async def take(self, asked: Asked) -> bool:
        """Begins to answer a request, and waits until there is room for another one.

        False if the sandbox has sent more requests or prompts than a cell may make.
        """
        self._requests_left -= 1
        self._prompts_left -= len(asked.prompts)
        if min(self._requests_left, self._prompts_left) < 0:
            return False
        size = sum(len(prompt) for prompt in asked.prompts)
        self._chars += size
        self._out()
        self._tasks.start(self._answer(asked, size), "sub-calls of a cell")
        if self._chars > _PROMPT_CHARS:
            self._room.clear()
        await self._room.wait()
        return True

    async def cancel(self) -> None:
        """Cancels all requests that are being answered."""
        await self._tasks.close()

    async def _answer(self, asked: Asked, size: int) -> None:
        try:
            allowed = min(self._left, len(asked.prompts))
            self._left -= allowed
            replies = list(await self._ask(asked, allowed)) if allowed else []
            over = SubReply("Not asked: the cell is over its limit of sub-calls.", "call_limit")
            for frame in _frames(asked.id, [*replies, *[over] * (len(asked.prompts) - allowed)]):
                self._send(frame)
        finally:
            self._chars -= size
            if self._chars <= _PROMPT_CHARS:
                self._room.set()
            self._back()

    async def _ask(self, asked: Asked, allowed: int) -> Sequence[SubReply]:
        calls = SubCalls(asked.kind, tuple(asked.prompts[:allowed]), asked.model)
        try:
            replies = await self._on_calls(calls)
        except PylonError as error:
            return [SubReply(str(error), "failed")] * allowed
        except Exception as error:  # a fault of ours must not cost the cell its other answers
            _log.error("a sub-call failed because of an internal error", error=type(error).__name__, exc_info=True)
            return [SubReply(f"The call failed inside ({type(error).__name__}).", "internal")] * allowed
        missing = SubReply("No answer came.", "internal")
        return [*replies[:allowed], *[missing] * (allowed - len(replies))]


def _frames(request: str, replies: Sequence[SubReply]) -> list[bytes]:
    """The replies to one request, in as many frames as they need."""
    parts: list[list[tuple[str, str | None, str | None]]] = [[]]
    size = 0
    for reply in replies:
        # A lone surrogate cannot be written as UTF-8.
        cut = reply.text[:_REPLY_CHARS].encode("utf-8", "replace").decode()
        length = len(cut) + _AROUND_CHARS
        if parts[-1] and size + length > _PART_CHARS:
            parts.append([])
            size = 0
        parts[-1].append((cut, reply.error_code, reply.finish))
        size += length
    last = len(parts) - 1
    return [
        encode({"type": "reply", "id": request, "replies": part, "last": index == last})
        for index, part in enumerate(parts)
    ]
