"""Standard input while nobody has typed its end."""

import asyncio
import os
import sys

import pytest

from pylon.cli import stdin
from pylon.cli.stdin import StandardInput
from pylon.errors import UsageError


@pytest.fixture
def typed(monkeypatch):
    """Where a person types."""
    source, sink = os.pipe()
    with os.fdopen(source) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        yield sink


async def test_what_is_typed_is_read_to_its_end(typed):
    reading = asyncio.create_task(StandardInput().text())
    for piece in ("Größe ".encode()[:3], "Größe ".encode()[3:], b"?"):
        os.write(typed, piece)
        await asyncio.sleep(0.2)
    os.close(typed)
    assert await reading == "Größe ?"


async def test_a_line_is_read_no_further_than_it_goes(typed):
    os.write(typed, b"50 500 5000\nanother\xff")
    assert await stdin.line() == "50 500 5000\n"
    os.close(typed)
    assert await stdin.line() == "another\ufffd"
    assert await stdin.line() == ""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("read", [stdin.text, stdin.line])
def test_a_read_ends_with_the_command_that_waits_for_it(typed, read):
    async def command():
        reading = asyncio.create_task(read())
        await asyncio.sleep(0.2)
        reading.cancel()
        await asyncio.wait([reading])

    # It waits for its threads.
    asyncio.run(command())
    os.close(typed)


async def test_an_input_that_was_closed_is_an_error_in_words(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="standard input is closed"):
        await StandardInput().text()
    assert await stdin.line() == ""
