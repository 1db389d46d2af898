"""Long lists over the control socket: sent in pieces, a line each, after the line that they belong to.

    → {"call": "map", "params": {…}, "follows": "jobs"}
    → [{…}, {…}, …]                       any number
    → []                                  that was all
    ← {"result": {…}, "follows": "outcomes"}
    ← [{…}, {…}, …]                       any number
    ← []

As one line, a map of 250,000 prompts would be written, read and parsed in one step each, and a node could serve
nobody else meanwhile.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from pylon.errors import UsageError
from pylon.node.calls.params import MOST_JOBS, too_many_jobs

FOLLOWS = "follows"
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


def without_long_list(values: dict[str, Any], name: str) -> tuple[dict[str, Any], Sequence[Any] | None]:
    """The values without the list of this name, and that list; or all values and None if it is short or missing."""
    rows = values.get(name)
    if not isinstance(rows, (list, tuple)):
        return values, None
    if len(rows) <= _SHORT and len(orjson.dumps(rows)) <= _PIECE_BYTES:
        return values, None
    return {key: value for key, value in values.items() if key != name}, rows


async def write(
    writer: asyncio.StreamWriter,
    line: dict[str, Any],
    name: str,
    rows: Sequence[Any] | None,
    *,
    most_bytes: int | None = None,
    most_line: int | None = None,
) -> None:
    """Writes a line, and the list `rows` after it, unless that is None; `name` is the list's.

    Raises `ConnectionError`, and `UsageError` for a list of more than `most_bytes` or a line of more than `most_line`
    bytes.
    """
    if rows is None:
        writer.write(line_of(line, most_line))
        await writer.drain()
        return
    writer.write(orjson.dumps({**line, FOLLOWS: name}) + b"\n")
    size = 0
    for piece in _pieces(rows):
        size += len(piece)
        if most_bytes is not None and size > most_bytes:
            # The reader would hang up in the middle, and its error could not be read.
            raise _too_much(most_bytes)
        if most_line is not None and len(piece) > most_line:
            raise _too_long(most_line)
        writer.write(piece)
        await writer.drain()
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


async def read_into(request: dict[str, Any], reader: asyncio.StreamReader) -> None:
    """Reads the list that follows a call into the parameters of `request`. Raises as `read` does."""
    rows = await read(reader, most_bytes=MAX_CALL_BYTES, most_rows=MOST_JOBS, within=SILENCE_S)
    name, params = request[FOLLOWS], request.get("params")
    params = {} if params is None else params
    if "id" in request or not isinstance(params, dict) or not isinstance(name, str):
        raise UsageError(
            "a call with a list must have its own connection and an object of params, and must name the list"
        )
    request["params"] = {**params, name: rows}


async def read(
    reader: asyncio.StreamReader,
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
    while line := await asyncio.wait_for(read_line(reader), within):
        piece = _parsed(line)
        if not piece:
            return rows
        rows += piece
        size += len(line)
        if most_rows is not None and len(rows) > most_rows:
            raise too_many_jobs(most_rows)
        if most_bytes is not None and size > most_bytes:
            raise _too_much(most_bytes)
        since_turn += len(line)
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


def _pieces(rows: Sequence[Any]) -> Iterator[bytes]:
    piece: list[bytes] = []
    size = 0
    for row in rows:
        piece.append(orjson.dumps(row))
        size += len(piece[-1])
        if size >= _PIECE_BYTES:
            yield b"[" + b",".join(piece) + b"]\n"
            piece, size = [], 0
    if piece:
        yield b"[" + b",".join(piece) + b"]\n"
    yield b"[]\n"


def _parsed(line: bytes) -> list[Any]:
    try:
        piece = orjson.loads(line)
    except orjson.JSONDecodeError:
        piece = None
    if not isinstance(piece, list):
        raise UsageError("only lists may follow a call, and the last of them must be empty")
    return piece
