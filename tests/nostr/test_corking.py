"""Frames of one turn of the loop leave together, whole and in order."""

import asyncio
from typing import Any

from pylon.nostr.websocket.corking import MAX_HELD_BYTES, Cork


class Written:
    """A transport's place: what was done to it, in order."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def write(self, data: bytes) -> None:
        self.done.append(data)

    def write_eof(self) -> None:
        self.done.append("eof")

    def close(self) -> None:
        self.done.append("close")

    def get_write_buffer_size(self) -> int:
        return 7


async def test_what_is_written_in_one_turn_leaves_in_one_write() -> None:
    written = Written()
    cork = Cork(written)  # type: ignore[arg-type]  # what it needs of a transport
    for part in (b"a", b"b", b"c"):
        cork.write(part)
    assert written.done == []
    await asyncio.sleep(0)
    assert written.done == [b"abc"]
    cork.write(b"d")
    await asyncio.sleep(0)
    assert written.done == [b"abc", b"d"]
    assert cork.get_write_buffer_size() == 7


async def test_no_more_is_held_than_the_limit() -> None:
    written = Written()
    cork = Cork(written)  # type: ignore[arg-type]
    cork.write(b"x")
    cork.write(bytes(MAX_HELD_BYTES))
    assert written.done == [b"x" + bytes(MAX_HELD_BYTES)]
    cork.write(b"y")
    await asyncio.sleep(0)
    assert written.done[1:] == [b"y"]


async def test_nothing_is_left_behind_at_the_end() -> None:
    written = Written()
    cork = Cork(written)  # type: ignore[arg-type]
    cork.write(b"last words")
    cork.write_eof()
    cork.write(b"")
    cork.close()
    await asyncio.sleep(0)
    assert written.done == [b"last words", "eof", b"", "close"]
