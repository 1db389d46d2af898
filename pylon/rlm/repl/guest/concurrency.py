"""Replacements for asyncio's event loop and for thread pools, which send sub-calls together.

The event loop needs no socket and no selector. It collects what coroutines ask until none of them can go on, and then
sends it together. In a sandbox without threads a pool runs its tasks one after the other, but sends the sub-calls
that it is given directly together.
"""

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

from .calls import Calls, Query


class GuestLoop(asyncio.base_events.BaseEventLoop):
    """An event loop that sends the waiting sub-calls when nothing else is left to do."""

    calls: Calls  # of the one REPL in this interpreter
    threads = False

    def __init__(self) -> None:
        super().__init__()
        self._selector = self
        self._woken = threading.Event()
        self._waiting: list[tuple[Query, object, str | None, asyncio.Future[Any]]] = []

    def later(self, query: Query, prompt: object, model: str | None = None) -> "asyncio.Future[Any]":
        """A future for the answer; the call is sent when no coroutine can go on without it."""
        future: asyncio.Future[Any] = self.create_future()
        self._waiting.append((query, prompt, model, future))
        return future

    def select(self, timeout: float | None) -> list[Any]:
        if timeout == 0 or self._woken.is_set():
            pass
        elif self._waiting:
            self._send()
        elif self.threads:
            self._woken.wait(timeout)
        elif timeout is None:
            raise RuntimeError("The event loop waits for something that nothing here can bring.")
        else:
            time.sleep(timeout)
        self._woken.clear()
        return []

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        groups: dict[tuple[str, str | None], list[tuple[object, asyncio.Future[Any]]]] = {}
        for query, prompt, model, future in waiting:
            if not future.cancelled():
                groups.setdefault((query.kind, model), []).append((prompt, future))
        for (kind, model), group in groups.items():
            replies = self.calls.send(kind, [prompt for prompt, _ in group], model)
            for (_, future), reply in zip(group, replies, strict=True):
                future.set_result(reply)

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        self._woken.set()

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        if isinstance(func, Query):
            return self.later(func, *args)
        if self.threads:
            return super().run_in_executor(executor, func, *args)
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


async def to_thread(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    loop = asyncio.get_running_loop()
    if isinstance(func, Query) and isinstance(loop, GuestLoop):
        return await loop.later(func, *args, **kwargs)
    return await loop.run_in_executor(None, lambda: func(*args, **kwargs))


class SubCallPool(concurrent.futures.ThreadPoolExecutor):
    """A thread pool that sends `map(llm_query, …)` together, however few workers it has."""

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **options: Any) -> Iterator[Any]:
        if isinstance(fn, Query) and len(iterables) == 1:
            return iter(fn.batch(list(iterables[0])))
        return super().map(fn, *iterables, **options)


class OneByOnePool(concurrent.futures.Executor):
    """A pool without threads: a task runs when it is submitted, a sub-call is sent when an answer is needed."""

    def __init__(self, max_workers: int | None = None, *_: Any, **__: Any) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        self._waiting: list[tuple[Query, tuple[Any, ...], dict[str, Any], _Lazy]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future = _Lazy(self)
        if isinstance(fn, Query):
            self._waiting.append((fn, args, kwargs, future))
            return future
        try:
            Future.set_result(future, fn(*args, **kwargs))
        except Exception as error:
            Future.set_exception(future, error)
        return future

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **options: Any) -> Iterator[Any]:
        if isinstance(fn, Query) and len(iterables) == 1:
            return iter(fn.batch(list(iterables[0])))
        return super().map(fn, *iterables, **options)

    def send(self) -> None:
        """Sends the sub-calls that were submitted and not sent yet."""
        waiting, self._waiting = self._waiting, []
        groups: dict[tuple[Query, str | None], list[tuple[object, _Lazy]]] = {}
        for query, args, kwargs, future in waiting:
            try:
                prompt, model = _arguments(*args, **kwargs)
            except TypeError as error:
                Future.set_exception(future, error)
            else:
                groups.setdefault((query, model), []).append((prompt, future))
        for (query, model), group in groups.items():
            for (_, future), reply in zip(group, query.batch([prompt for prompt, _ in group], model), strict=True):
                Future.set_result(future, reply)

    def shutdown(self, *_: Any, **__: Any) -> None:
        self.send()


POOLS = (SubCallPool, OneByOnePool)


def _arguments(prompt: object, model: str | None = None) -> tuple[object, str | None]:
    return prompt, model


class _Lazy(Future):  # type: ignore[type-arg]
    """A future of OneByOnePool: looking at it makes the pool send its sub-calls."""

    def __init__(self, pool: OneByOnePool) -> None:
        super().__init__()
        self._pool = pool

    def result(self, timeout: float | None = None) -> Any:
        self._pool.send()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._pool.send()
        return super().exception(timeout)

    def done(self) -> bool:
        self._pool.send()
        return super().done()


def _sent(fs: Iterable[Any]) -> list[Any]:
    futures = list(fs)
    for future in futures:
        if isinstance(future, _Lazy):
            future.done()
    return futures


def as_completed(fs: Iterable[Any], timeout: float | None = None) -> Iterator[Any]:
    return concurrent.futures._base.as_completed(_sent(fs), timeout)


def wait(fs: Iterable[Any], timeout: float | None = None, return_when: str = concurrent.futures.ALL_COMPLETED) -> Any:
    return concurrent.futures._base.wait(_sent(fs), timeout, return_when)


def install(calls: Calls, *, threads: bool) -> None:
    """Replaces the standard library's classes and functions by these, for the whole interpreter."""
    GuestLoop.calls = calls
    GuestLoop.threads = threads
    places: tuple[tuple[Any, str, Any], ...] = (
        (asyncio.events, "new_event_loop", GuestLoop),
        (asyncio, "new_event_loop", GuestLoop),
        (asyncio.threads, "to_thread", to_thread),
        (asyncio, "to_thread", to_thread),
        (concurrent.futures, "ThreadPoolExecutor", SubCallPool if threads else OneByOnePool),
    )
    if not threads:
        places += ((concurrent.futures, "as_completed", as_completed), (concurrent.futures, "wait", wait))
    for module, name, replacement in places:
        setattr(module, name, replacement)
