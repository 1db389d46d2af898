"""The event loop: a name server that does not answer keeps neither other work nor the end of the program."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from pylon.cli.running import run
from pylon.event_loop import EventLoop
from pylon.loop_thread import LoopThread

# How long a lookup hangs if nobody ends it, and what counts as not waiting for it.
HANGS_S, SOON_S = 20.0, 5.0


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Lookups hang until this is set."""
    answered = threading.Event()

    def hangs(*_: Any, **__: Any) -> Any:
        answered.wait(HANGS_S)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    yield answered
    answered.set()


async def connect(within_s: float) -> None:
    async with asyncio.timeout(within_s):
        await asyncio.open_connection("relay.example", 443)


def test_a_command_ends_while_a_lookup_hangs(hanging):
    async def command() -> None:
        with suppress(TimeoutError):
            await connect(0.05)

    began = time.monotonic()
    run(command())
    assert time.monotonic() - began < SOON_S


def test_a_client_in_a_thread_is_closed_while_a_lookup_hangs(hanging):
    before = set(threading.enumerate())
    began, thread = time.monotonic(), LoopThread("client")
    with pytest.raises(TimeoutError):
        thread.run(connect(0.05))
    thread.end()
    assert time.monotonic() - began < SOON_S
    # The end of the program waits for those of the pool that asyncio would use.
    assert [one.name for one in set(threading.enumerate()) - before] == ["name lookup"]


def test_other_work_goes_on_while_many_lookups_hang(hanging):
    async def work() -> float:
        lookups = [asyncio.create_task(connect(HANGS_S)) for _ in range(50)]
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await asyncio.to_thread(time.monotonic)
        took = time.monotonic() - began
        for each in lookups:
            each.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)
        return took

    with asyncio.Runner(loop_factory=EventLoop) as runner:
        assert runner.run(work()) < SOON_S


def test_why_a_lookup_failed_is_said(hanging):
    hanging.set()
    with asyncio.Runner(loop_factory=EventLoop) as runner, pytest.raises(socket.gaierror):
        runner.run(connect(HANGS_S))


def test_an_answer_that_nobody_waits_for_any_more_is_dropped_without_a_word(hanging, caplog):
    async def gives_up() -> None:
        with suppress(TimeoutError):
            await connect(0.05)
        hanging.set()
        # Time for the thread to tell.
        await asyncio.sleep(0.05)

    with asyncio.Runner(loop_factory=EventLoop) as runner:
        runner.run(gives_up())
    assert not caplog.records


def test_what_is_found_is_what_asyncio_finds():
    async def found() -> Any:
        return await asyncio.get_running_loop().getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)

    with asyncio.Runner(loop_factory=EventLoop) as ours, asyncio.Runner() as asyncios:
        assert ours.run(found()) == asyncios.run(found())
