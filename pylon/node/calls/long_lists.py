"""Long lists over the control socket: sent in pieces, a line each, after the line that they belong to.

    → {"call": "map", "params": {…}, "follows": "jobs"}
    → [{…}, {…}, …]                       any number
    → []                                  that was all
    ← {"result": {…}, "follows": "outcomes"}
    ← [{…}, {…}, …]                       any number
    ← []

A result's list comes in pieces only to a client that can read them: one whose call says `"pieces": true`, or sent a
list itself.

With numbered calls (`numbered`) a piece is `{"id": 7, "rows": […]}`, and lines of other calls may come in between.

As one line, a map of 250,000 prompts would be written, read and parsed in one step each, and a node could serve
nobody else meanwhile.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from pylon.errors import UsageError
from pylon.node.calls.params import MOST_JOBS, too_many_jobs

FOLLOWS, PIECES = "follows", "pieces"
# The lists of results that may be long.
_RESULTS = ("outcomes", "providers")
# The most bytes of a call, and of one of its lines: a node serves nobody else while it parses a line. No prompt that
# a provider can be sent is longer than an event of 64 KiB.
MAX_CALL_BYTES = 512 * 1024 * 1024
MAX_LINE_BYTES = 8 * 1024 * 1024
# Seconds that a node waits for the line of a call, and for each piece of its list.
SILENCE_S = 30.0
# A list of at most so many rows is sent within its line.
_SHORT = 100
# Takes some milliseconds to parse. It is no less than a socket delivers in one turn of the event loop, so that
# nothing piles up unread.
_PIECE_BYTES = 256 * 1024


class Piece(NamedTuple):
    """A part of a list that came, and how many bytes its line had."""

    rows: list[Any]
    size: int


# Sends a line, and returns once it may be followed by another.
type Put = Callable[[bytes], Awaitable[None]]
# The next piece of a list; None if the other side is gone.
type NextPiece = Callable[[], Awaitable[Piece | None]]


def without_long_list(values: dict[str, Any], name: str) -> tuple[dict[str, Any], Sequence[Any] | None]:
    """The values without the list of this name, and that list; or all values and None if it is short or missing."""
    rows = values.get(name)
    if not isinstance(rows, (list, tuple)):
        return values, None
    if len(rows) <= _SHORT and len(orjson.dumps(rows)) <= _PIECE_BYTES:
        return values, None
    return {key: value for key, value in values.items() if key != name}, rows


def put_to(writer: asyncio.StreamWriter) -> Put:
    """Puts lines into a stream."""

    async def put(line: bytes) -> None:
        writer.write(line)
        await writer.drain()

    return put


async def write_call(put: Put, call: dict[str, Any]) -> None:
    """Writes a call, with a long list of its jobs behind it. Raises `ConnectionError`, and `UsageError` for a call or
    line that is too long."""
    params, jobs = without_long_list(call["params"], "jobs")
    call = {**call, "params": params, PIECES: True}
    await _write(put, call, "jobs", jobs, most_bytes=MAX_CALL_BYTES, most_line=MAX_LINE_BYTES)


async def write_answer(put: Put, answer: dict[str, Any], request: dict[str, Any]) -> None:
    """Writes an answer to `request`, with a long list behind it if the client can read one in pieces. Raises
    `ConnectionError`."""
    result = answer.get("result")
    if isinstance(result, dict) and (FOLLOWS in request or request.get(PIECES) is True):
        for name in _RESULTS:
            rest, rows = without_long_list(result, name)
            if rows is not None:
                await _write(put, {**answer, "result": rest}, name, rows)
                return
    await put(line_of(answer))


async def _write(
    put: Put,
    line: dict[str, Any],
    name: str,
    rows: Sequence[Any] | None,
    *,
    most_bytes: int | None = None,
    most_line: int | None = None,
) -> None:
    """Writes a line, and the list `rows` of this name after it, unless that is None."""
    if rows is None:
        await put(line_of(line, most_line))
        return
    await put(line_of({**line, FOLLOWS: name}, most_line))
    size = 0
    for piece in _pieces(rows, line.get("id")):
        size += len(piece)
        if most_bytes is not None and size > most_bytes:
            # The reader would hang up in the middle, and its error could not be read.
            raise _too_much(most_bytes)
        if most_line is not None and len(piece) > most_line:
            raise _too_long(most_line)
        await put(piece)
        await asyncio.sleep(0)


def line_of(values: dict[str, Any], most_line: int | None = None) -> bytes:
    """The values as a line of JSON. Raises `UsageError` if it has more than `most_line` bytes."""
    line = orjson.dumps(values) + b"\n"
    if most_line is not None and len(line) > most_line:
        raise _too_long(most_line)
    return line


async def read_line(reader: asyncio.StreamReader) -> bytes:
    """The next line; empty at the end of the stream. Raises `UsageError` for one over the reader's limit."""
    try:
        return await reader.readline()
    except ValueError as error:
        raise _too_long(MAX_LINE_BYTES) from error


def pieces_from(reader: asyncio.StreamReader) -> NextPiece:
    """The pieces of a list that has a connection for itself. Asking for one raises `UsageError` for a line that is
    none."""

    async def piece() -> Piece | None:
        line = await read_line(reader)
        return Piece(_parsed(line), len(line)) if line else None

    return piece


async def read_into(request: dict[str, Any], pieces: NextPiece) -> None:
    """Reads the list that follows a call into the parameters of `request`. Raises as `read` does."""
    rows = await read(pieces, most_bytes=MAX_CALL_BYTES, most_rows=MOST_JOBS, within=SILENCE_S)
    name, params = request[FOLLOWS], request.get("params")
    params = {} if params is None else params
    if not isinstance(params, dict) or not isinstance(name, str):
        raise UsageError("a call with a list must have an object of params, and must name the list")
    request["params"] = {**params, name: rows}


async def read(
    pieces: NextPiece,
    *,
    most_bytes: int | None = None,
    most_rows: int | None = None,
    within: float | None = None,
) -> list[Any]:
    """The list that follows a line, of which each piece must come `within` so many seconds.

    Raises `ConnectionError` if it breaks off, `TimeoutError`, and `UsageError` for anything but a list of at most
    `most_rows` rows and `most_bytes` bytes.
    """
    rows: list[Any] = []
    size = since_turn = 0
    while (piece := await asyncio.wait_for(pieces(), within)) is not None:
        if not piece.rows:
            return rows
        rows += piece.rows
        size += piece.size
        if most_rows is not None and len(rows) > most_rows:
            raise too_many_jobs(most_rows)
        if most_bytes is not None and size > most_bytes:
            raise _too_much(most_bytes)
        since_turn += piece.size
        if since_turn >= _PIECE_BYTES:
            since_turn = 0
            await asyncio.sleep(0)
    raise ConnectionResetError("the list is incomplete")


def _too_much(most_bytes: int) -> UsageError:
    return UsageError(f"a call may be at most {most_bytes >> 20} MiB", hint="Split it into several calls.")


def _too_long(most_bytes: int) -> UsageError:
    return UsageError(
        f"a line of a call may be at most {most_bytes >> 20} MiB, and each job takes one line",
        hint=("Split the prompt into smaller pieces: no event can carry it. `pylon rlm` reads texts of any length."),
    )


def _pieces(rows: Sequence[Any], number: int | None = None) -> Iterator[bytes]:
    """The lines of a list; `number` is that of its call, if it has one."""
    before, after = (b"[", b"]\n") if number is None else (b'{"id":%d,"rows":[' % number, b"]}\n")
    piece: list[bytes] = []
    size = 0
    for row in rows:
        piece.append(orjson.dumps(row))
        size += len(piece[-1])
        if size >= _PIECE_BYTES:
            yield before + b",".join(piece) + after
            piece, size = [], 0
    if piece:
        yield before + b",".join(piece) + after
    yield before + after


def _parsed(line: bytes) -> list[Any]:
    try:
        piece = orjson.loads(line)
    except orjson.JSONDecodeError:
        piece = None
    if not isinstance(piece, list):
        raise UsageError("only lists may follow a call, and the last of them must be empty")
    return piece
