"""An event loop in a thread of its own: what ends it, and what is told to whoever waits there."""

import asyncio
import threading
import time

import pytest

from pylon import loop_thread
from pylon.errors import UnreachableError, UsageError
from pylon.loop_thread import Blocking, LoopThread


class Held(Blocking):
    def __init__(self) -> None:
        self.closed = False
        super().__init__("thing")

    def ask(self, work):
        return self._thread.run(work)

    async def _open(self) -> None: ...

    async def _close(self) -> None:
        self.closed = True


def test_closing_cancels_what_another_thread_waits_for_and_says_so_there():
    ended, began, cancelled = [], threading.Event(), threading.Event()

    async def forever():
        began.set()
        try:
            await asyncio.sleep(3_600)
        finally:
            cancelled.set()

    held = Held()

    def wait():
        try:
            held.ask(forever())
        except UnreachableError as error:
            ended.append(str(error))

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert began.wait(10)
    held.close()
    waiting.join(10)
    assert ended == ["this thing is closed"] and cancelled.is_set() and held.closed
    held.close()


def test_one_that_hangs_in_a_function_is_left_to_the_end_of_the_program(monkeypatch):
    monkeypatch.setattr(loop_thread, "HANGS_S", 0.3)
    hangs, go_on = threading.Event(), threading.Event()

    async def blocked():
        hangs.set()
        go_on.wait(30)

    held = Held()
    threading.Thread(target=lambda: held.ask(blocked()), daemon=True).start()
    assert hangs.wait(10)
    began = time.monotonic()
    held.close()
    assert time.monotonic() - began < 10 and not held.closed
    go_on.set()
    held.close()
    assert held.closed


def test_a_function_that_it_calls_cannot_close_it_and_hears_so_at_once():
    held, told = Held(), []

    async def call():
        began = time.monotonic()
        with pytest.raises(UsageError, match="wait for itself"):
            held.close()
        told.append(time.monotonic() - began)

    held.ask(call())
    assert told[0] < loop_thread.HANGS_S and not held.closed
    held.close()
    assert held.closed


def test_a_generator_is_read_piece_by_piece_and_closed_by_whoever_leaves_it():
    closed = threading.Event()

    async def pieces():
        try:
            for piece in "abc":
                yield piece
        finally:
            closed.set()

    thread = LoopThread("test")
    assert list(thread.each(pieces())) == ["a", "b", "c"]
    assert closed.is_set()
    closed.clear()
    for piece in thread.each(pieces()):
        assert piece == "a"
        break
    assert closed.wait(10)
    thread.end()
    with pytest.raises(UnreachableError):
        thread.run(asyncio.sleep(0))
