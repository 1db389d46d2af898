"""The route `POST /v1/chat/completions`: answers with a whole completion or with a stream of its chunks."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import AsyncExitStack, aclosing
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from pylon.clock import Clock
from pylon.gateway import completion
from pylon.gateway.asks import Asks
from pylon.gateway.bodies import Bodies
from pylon.gateway.chat import Chat, read
from pylon.gateway.deltas import Deltas
from pylon.gateway.problems import Problem
from pylon.gateway.upstream import Ended, Said
from pylon.tasks import end

# Proxies and clients give up an idle connection, many after a minute. A line that begins with a colon is a comment,
# which clients ignore (HTML, "Server-sent events").
BEAT_S = 15.0
_BEAT = b": goes on\n\n"
# A proxy that buffers the response would break the stream; this header tells nginx not to.
_STREAMED = {"cache-control": "no-store", "x-accel-buffering": "no"}


class ClientGoneError(Exception):
    """The client closed the connection before its answer."""


class Completions:
    """See the module."""

    def __init__(self, asks: Asks, bodies: Bodies, clock: Clock) -> None:
        self._asks = asks
        self._bodies = bodies
        self._clock = clock

    async def answer(self, request: Request) -> Response:
        """Answers a request. Raises `Problem`, and `ClientGoneError` if the client hung up, which cancels its job."""
        async with AsyncExitStack() as held:
            try:
                chat = read(await held.enter_async_context(self._bodies.read(request)))
            except Problem as problem:
                self._asks.tally.outcomes[problem.code] += 1
                raise
            if not chat.stream:
                row = await _while_there(request, self._asks.whole(chat))
                made = completion.completion(row, chat.job, int(self._clock.wall()))
                return json_response(made, headers=completion.headers(row))
        heard = self._asks.run(chat)
        try:
            # Wait for the first piece: a failure before it has its own status, while a stream always begins with 200.
            first = await _while_there(request, anext(heard))
        except BaseException:
            await heard.aclose()
            raise
        events = self._events(chat, first, heard)
        return StreamingResponse(events, media_type="text/event-stream", headers=_STREAMED)

    async def _events(
        self, chat: Chat, first: Said | Ended, heard: AsyncGenerator[Said | Ended]
    ) -> AsyncIterator[bytes]:
        made = _Stream(chat, int(self._clock.wall()))
        async with aclosing(heard):
            yield made.opening()
            try:
                for piece in made.take(first):
                    yield piece
                async with aclosing(_with_beats(heard)) as lively:
                    async for one in lively:
                        for piece in [_BEAT] if one is None else made.take(one):
                            yield piece
            except Problem as problem:
                yield _event(problem.body())
            else:
                yield b"data: [DONE]\n\n"


class _Stream:
    """Turns what is heard of one answer into the server-sent events of its stream."""

    def __init__(self, chat: Chat, created: int) -> None:
        self._chat = chat
        self._created = created
        # The model that answers is known only at the end, and clients expect the same name in all chunks.
        self._model = chat.job.get("model", "any")
        # Random, since the id of the request event is not known yet.
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._deltas = Deltas()

    def opening(self) -> bytes:
        return _event(self._chunk({"role": "assistant", "content": ""}))

    def take(self, one: Said | Ended) -> list[bytes]:
        """The events to send next. Raises `Problem` if the final answer does not begin with what was sent."""
        if isinstance(one, Said):
            piece = self._deltas.take(one.text)
            return [_event(self._chunk({"content": piece}))] if piece else []
        return self._end(one.row)

    def _end(self, row: dict[str, Any]) -> list[bytes]:
        rest = self._deltas.end(row["text"])
        if rest is None:
            said = "another provider took over, and its answer differs from the part already sent: ask again"
            raise Problem(503, "answer_began_anew", said)
        last = self._chunk({}, completion.finish_reason(row)) | {"pylon": completion.provenance(row)}
        events = [_event(self._chunk({"content": rest}))] if rest else []
        events.append(_event(last))
        if self._chat.include_usage:
            used = completion.usage(row, self._chat.job)
            events.append(_event({**self._chunk({}), "choices": [], "usage": used}))
        return events

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return completion.chunk(self._id, self._model, self._created, delta, finish)


async def _with_beats(heard: AsyncGenerator[Said | Ended]) -> AsyncGenerator[Said | Ended | None]:
    """Passes on what is heard, and None whenever there was nothing for `BEAT_S` seconds."""
    coming: asyncio.Future[Said | Ended | None] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(heard, None))
            await asyncio.wait({coming}, timeout=BEAT_S)
            if not coming.done():
                yield None
                continue
            come, coming = coming, None
            if (one := come.result()) is None:
                return
            yield one
    finally:
        await end(coming)


async def _while_there[T](request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Awaits `work`. Raises `ClientGoneError` and cancels it if the client hangs up first."""
    asking = asyncio.create_task(work, name="a request of a program")
    leaving = asyncio.create_task(_gone(request), name="whether the program is there")
    try:
        await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            raise ClientGoneError
        return asking.result()
    finally:
        # A finished `work` is not ended here: its result or error was passed on above.
        await end(leaving, None if asking.done() else asking)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def json_response(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON that no cache keeps."""
    kept = {"cache-control": "no-store", **(headers or {})}
    return Response(orjson.dumps(value), status, headers=kept, media_type="application/json")


def _event(value: object) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"
