"""An event loop in a thread of its own, for code that is not asynchronous, such as the cells of a notebook."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from concurrent.futures import CancelledError
from typing import Any, Self

from pylon.errors import PylonError, UnreachableError, UsageError
from pylon.event_loop import EventLoop
from pylon.tasks import end

# A loop that takes no turn for so many seconds is blocked by a function that it called.
HANGS_S = 5.0


class LoopThread:
    """Runs coroutines in its own thread, also for callers whose thread runs an event loop already, as in Jupyter.

    `name` is what errors call its owner.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._process = os.getpid()
        self._loop = EventLoop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether there is nothing to end here: it has ended, or is another process's."""
        return self._loop.is_closed() or os.getpid() != self._process

    def run[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Waits for a coroutine; returns its result or raises its error. Ctrl-C cancels it.

        Raises `UsageError` where waiting would never end: in a function that this thread calls, and in a process that
        was forked after the thread began. Raises `UnreachableError` when the thread has ended.
        """
        if (wrong := self._cannot_wait()) is not None:
            work.close()
            raise wrong
        future = asyncio.run_coroutine_threadsafe(_caught(work), self._loop)
        try:
            value, exited = future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise
        except CancelledError:
            raise UnreachableError(f"this {self._name} is closed") from None
        if exited is not None:
            raise exited
        return value  # type: ignore[return-value]  # with no exit it is the coroutine's

    def each[T](self, pieces: AsyncGenerator[T]) -> Iterator[T]:
        """What an asynchronous generator yields. Leaving the iterator closes the generator."""
        try:
            while True:
                try:
                    yield self.run(_next(pieces))
                except StopAsyncIteration:
                    return
        finally:
            self.leave(pieces)

    def leave(self, pieces: AsyncGenerator[Any]) -> None:
        """Closes a generator, without waiting for it."""
        # The caller may be the garbage collector, on any thread, or the end of the program.
        if not (sys.is_finalizing() or self.ended):
            asyncio.run_coroutine_threadsafe(_closed(pieces), self._loop)

    @property
    def hangs(self) -> bool:
        """Whether the loop takes no turn within `HANGS_S` seconds. False when asked on the thread itself."""
        if threading.current_thread() is self._thread:
            return False
        turned = threading.Event()
        self._loop.call_soon_threadsafe(turned.set)
        return not turned.wait(HANGS_S)

    def end(self) -> None:
        """Cancels what still runs there, and ends the thread. May be called twice."""
        if self.ended:
            return
        asyncio.run_coroutine_threadsafe(_others_cancelled(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _cannot_wait(self) -> PylonError | None:
        if os.getpid() != self._process:
            return UsageError(
                f"this {self._name} was made in another process", hint="Make one in each, after the fork."
            )
        if threading.current_thread() is self._thread:
            return UsageError(
                f"a function that the {self._name} calls cannot ask it, since it would wait for itself",
                hint="Remember what there is to ask, and ask it when the call is over.",
            )
        return UnreachableError(f"this {self._name} is closed") if self._loop.is_closed() else None


class Blocking:
    """A context manager for code that is not asynchronous: what it holds is opened, used and closed in a thread.

    Subclasses do that in `_open` and `_close`. `name` is what errors call it.
    """

    def __init__(self, name: str) -> None:
        self._thread = LoopThread(name)
        try:
            self._thread.run(self._open())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends what is under way, and the thread. May be called twice."""
        if self._thread.ended or self._thread.hangs:
            # A blocked thread ends with the program: waiting for the function that blocks it could take for ever.
            return
        self._thread.run(self._close())
        self._thread.end()

    async def _open(self) -> None:
        raise NotImplementedError

    async def _close(self) -> None:
        raise NotImplementedError


def in_another_loop(name: str) -> UsageError:
    """The error for using in one event loop what was opened in another."""
    return UsageError(
        f"this {name} was opened in another event loop",
        hint="Open one in each, and use and close it there; `asyncio.run` makes a loop each time.",
    )


async def _caught[T](work: Coroutine[Any, Any, T]) -> tuple[T | None, BaseException | None]:
    """The result, or the exit that the coroutine raised: raised by a task, it would end the thread alone."""
    try:
        return await work, None
    except (KeyboardInterrupt, SystemExit) as error:
        return None, error


async def _others_cancelled() -> None:
    await end(*(asyncio.all_tasks() - {asyncio.current_task()}))


async def _next[T](pieces: AsyncGenerator[T]) -> T:
    return await anext(pieces)


async def _closed(pieces: AsyncGenerator[Any]) -> None:
    await pieces.aclose()
