"""Long lists over the control socket: in pieces, a line each, behind the line that they belong to.

    → {"call": "map", "params": {…}, "follows": "jobs"}
    → [{…}, {…}, …]                       any number
    → []                                  that was all
    ← {"result": {…}, "follows": "outcomes"}
    ← [{…}, {…}, …]                       any number
    ← []

In one line a map of 250,000 prompts would be written, read and parsed in one go each, and a node would have no turn
for anybody else meanwhile.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from pylon.errors import UsageError
from pylon.node.calls.params import MOST_JOBS

FOLLOWS = "follows"
# What a call may hold, and a line of it: whoever else is served waits for as long as that takes to parse. The longest
# prompt that anybody can be asked is an event of 64 KiB.
MAX_CALL_BYTES = 512 * 1024 * 1024
MAX_LINE_BYTES = 8 * 1024 * 1024
# How long a node waits for the line of a call, and for the next piece of its list.
SILENCE_S = 30.0
# Of a shorter list there is no need to make pieces.
_SHORT = 100
# Some milliseconds of parsing; and no less than a socket brings in a turn, so that nothing gathers unread.
_PIECE_BYTES = 256 * 1024


def apart(values: dict[str, Any], name: str) -> tuple[dict[str, Any], Sequence[Any] | None]:
    """Values without their list of this name, and the list; or all of them and None where it is short or none."""
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
    """A line, and the list that follows it, if there is one.

    Raises `ConnectionError`, and `UsageError` for a list of more than so many bytes, and for a longer line.
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
            # Whoever reads would hang up in the middle, and could not be heard.
            raise _too_much(most_bytes)
        if most_line is not None and len(piece) > most_line:
            raise _too_long(most_line)
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)


def line_of(values: dict[str, Any], most_line: int | None = None) -> bytes:
    """Values as a line. Raises `UsageError` for one of more than so many bytes."""
    line = orjson.dumps(values) + b"\n"
    if most_line is not None and len(line) > most_line:
        raise _too_long(most_line)
    return line


async def read_line(reader: asyncio.StreamReader) -> bytes:
    """The next line, empty at the end. Raises `UsageError` for one that is longer than the reader takes."""
    try:
        return await reader.readline()
    except ValueError as error:
        raise _too_long(MAX_LINE_BYTES) from error


async def take_in(request: dict[str, Any], reader: asyncio.StreamReader) -> None:
    """Puts the list that follows a call into its parameters. Raises as `read` does."""
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
    """The list that follows a line; each piece of it comes `within` so many seconds.

    Raises `ConnectionError` when it breaks off, `TimeoutError`, and `UsageError` for what is no list of at most so
    many rows and bytes.
    """
    rows: list[Any] = []
    size = unturned = 0
    while line := await asyncio.wait_for(read_line(reader), within):
        piece = _parsed(line)
        if not piece:
            return rows
        rows += piece
        size += len(line)
        if most_rows is not None and len(rows) > most_rows:
            raise UsageError(f"a run takes at most {most_rows:,} jobs", hint="Split it into several runs.")
        if most_bytes is not None and size > most_bytes:
            raise _too_much(most_bytes)
        unturned += len(line)
        if unturned >= _PIECE_BYTES:
            unturned = 0
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
