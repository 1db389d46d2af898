"""The customer for code that is not asynchronous, a notebook's cells among it.

    with Swarm(["ws://127.0.0.1:7447"]) as swarm:
        print(swarm.complete("How many legs has a spider?", max_tokens=16).text)

Everything runs in a thread of its own, so it works where an event loop runs already, as in Jupyter.
"""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any, Self

from pylon.errors import UnreachableError, UsageError
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.relay_url import normalize_relay_url
from pylon.swarm.client import SwarmClient
from pylon.swarm.job import Answer, JobSpec, Outcome, Progress
from pylon.swarm.listing import Listing
from pylon.swarm.settings import SwarmSettings


class Swarm:
    """A `SwarmClient` and its relays. Without `secret` it is a customer that nobody has seen before.

    `wait_s` is how long it listens for providers before its first question. Raises what `SwarmClient` raises,
    `MalformedError` for what is no address of a relay, `UnreachableError` when no relay can be reached, and
    `UsageError` where asking would never end: in a function that the swarm calls, and in a process that was forked
    after the swarm was made.
    """

    def __init__(
        self,
        relays: Sequence[str] | str,
        *,
        secret: SecretKey | None = None,
        settings: SwarmSettings | None = None,
        wait_s: float = 5.0,
    ) -> None:
        self._relays = [relays] if isinstance(relays, str) else list(relays)
        for url in self._relays:
            normalize_relay_url(url)
        self._secret = secret or SecretKey.generate()
        self._settings = settings
        self._wait_s = wait_s
        self._exit = AsyncExitStack()
        self._client: SwarmClient | None = None
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="swarm", daemon=True)
        self._thread.start()
        try:
            self._run(self._open())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancels what is out, and ends the thread. May be called twice."""
        if self._loop.is_closed() or os.getpid() != self._process:
            return
        self._run(self._exit.aclose())
        self._client = None
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def complete(self, job: JobSpec | str, **parameters: Any) -> Answer:
        """See `SwarmClient.complete`."""
        return self._run(self._swarm.complete(job, **parameters))

    def map(
        self, jobs: Iterable[JobSpec | str], *, on_progress: Callable[[Progress], None] | None = None, **options: Any
    ) -> list[Outcome]:
        """See `SwarmClient.map`. `on_progress` is called in the swarm's own thread; what it raises is raised here.
        Ctrl-C cancels the jobs.
        """
        return self._run(self._swarm.map(jobs, on_progress=on_progress, **options))

    def stream(self, job: JobSpec | str, **parameters: Any) -> Iterator[str | Answer]:
        """See `SwarmClient.stream`."""
        pieces = self._swarm.stream(job, **parameters)
        try:
            while True:
                try:
                    yield self._run(anext(pieces))
                except StopAsyncIteration:
                    return
        finally:
            self._leave(pieces)

    def providers(self) -> list[Listing]:
        """Who is alive."""
        return self._run(self._list())

    @property
    def _swarm(self) -> SwarmClient:
        if self._client is None:
            raise UnreachableError("this swarm was closed")
        return self._client

    async def _open(self) -> None:
        pool = RelayPool(self._relays, secret=self._secret)
        pool.start()
        self._exit.push_async_callback(pool.close)
        await pool.wait_open(self._wait_s)
        client = SwarmClient(pool, self._secret, settings=self._settings)
        self._client = await self._exit.enter_async_context(client)
        await client.caught_up(self._wait_s)

    async def _list(self) -> list[Listing]:
        return list(self._swarm.directory)

    def _run[T](self, work: Coroutine[Any, Any, T]) -> T:
        if (wrong := self._cannot_wait()) is not None:
            work.close()
            raise wrong
        future = asyncio.run_coroutine_threadsafe(_caught(work), self._loop)
        try:
            value, ended = future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise
        if ended is not None:
            raise ended
        return value  # type: ignore[return-value]  # None where it ended otherwise alone

    def _cannot_wait(self) -> Exception | None:
        if os.getpid() != self._process:
            return UsageError("this swarm was made in another process", hint="Make one in each, after the fork.")
        if threading.current_thread() is self._thread:
            return UsageError(
                "a function that the swarm calls cannot ask it, since it would wait for itself",
                hint="Remember what there is to ask, and ask it when the call is over.",
            )
        return UnreachableError("this swarm was closed") if self._loop.is_closed() else None

    def _leave(self, pieces: AsyncGenerator[str | Answer]) -> None:
        # Nobody waits for that: it may be the garbage collector that leaves, in whatever thread, or the program.
        if not (sys.is_finalizing() or self._loop.is_closed() or os.getpid() != self._process):
            asyncio.run_coroutine_threadsafe(_closed(pieces), self._loop)


async def _caught[T](work: Coroutine[Any, Any, T]) -> tuple[T | None, BaseException | None]:
    """What it gave, or what should end the program: in a task that would end the swarm's thread alone."""
    try:
        return await work, None
    except (KeyboardInterrupt, SystemExit) as error:
        return None, error


async def _closed(pieces: AsyncGenerator[str | Answer]) -> None:
    await pieces.aclose()
