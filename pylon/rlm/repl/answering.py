"""Answers a sandbox's sub-calls: how many there may be, how much of them at once, and what a failure becomes."""

import asyncio
from collections.abc import Callable, Sequence

from pylon import log
from pylon.errors import PylonError
from pylon.frames import encode
from pylon.rlm.repl.protocol import OnCalls, SubCalls, SubReply
from pylon.rlm.repl.wire import Asked
from pylon.tasks import Tasks

# Of prompts that are being answered; over this the sandbox's pipe is not read, so that it waits.
_PROMPT_CHARS = 128 * 1024 * 1024
_PART_CHARS = 1024 * 1024
# Empty requests, and prompts over a cell's limit, are nobody's business but their sandbox's. Our own guest sends none
# of them, but for threads that count at once or outlive their cell; nobody needs many.
_SPARE = 1_000
# One reply must fit a frame, with every character escaped.
_REPLY_CHARS = 2 * 1024 * 1024
# What stands around each.
_AROUND_CHARS = 64

_log = log.get("rlm")


class Answering:
    """`send` takes frames to the sandbox; `out` and `back` tell when a request begins and ends."""

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
        """So many may still come in a request."""
        return self._prompts_left

    def start_cell(self, calls: int) -> None:
        self._left = calls
        # A thread keeps to the limit of the cell that began it.
        self._most = max(self._most, calls)
        self._requests_left = self._prompts_left = self._most + _SPARE

    async def take(self, asked: Asked) -> bool:
        """Begins to answer; False when the sandbox floods its host with requests. Returns when there is room."""
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
        """Lets all requests go."""
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
        except Exception as error:  # a fault of ours must not take the cell's other answers down
            _log.error("a sub-call failed because of an internal error", error=type(error).__name__, exc_info=True)
            return [SubReply(f"The call failed inside ({type(error).__name__}).", "internal")] * allowed
        missing = SubReply("No answer came.", "internal")
        return [*replies[:allowed], *[missing] * (allowed - len(replies))]


def _frames(request: str, replies: Sequence[SubReply]) -> list[bytes]:
    """One request's replies in as many frames as they need."""
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
