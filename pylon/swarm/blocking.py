"""The customer for code that is not asynchronous, a notebook's cells among it.

    with Swarm(["ws://127.0.0.1:7447"]) as swarm:
        print(swarm.complete("How many legs has a spider?", max_tokens=16).text)

Everything runs in a thread of its own, so it works where an event loop runs already, as in Jupyter.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

from pylon.errors import UnreachableError
from pylon.loop_thread import Blocking
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.relay_url import normalize_relay_url
from pylon.swarm.client import SwarmClient
from pylon.swarm.job import Answer, JobSpec, Outcome, Progress
from pylon.swarm.providers.listing import Listing
from pylon.swarm.runs.question_checks import check_jobs
from pylon.swarm.settings import SwarmSettings

_NAME_ONE = 'Name a relay that can be reached from here: `Swarm(["wss://…"])`.'


class Swarm(Blocking):
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
        if not self._relays:
            raise UnreachableError("no relay is named", hint=_NAME_ONE)
        for url in self._relays:
            normalize_relay_url(url)
        if not isinstance(secret, SecretKey | None):
            raise TypeError(f"secret must be a SecretKey, not {type(secret).__name__}")
        self._secret = secret or SecretKey.generate()
        self._settings = settings
        self._wait_s = wait_s
        self._exit = AsyncExitStack()
        self._client: SwarmClient | None = None
        super().__init__("swarm")

    def complete(self, job: JobSpec | str = "", **parameters: Any) -> Answer:
        """See `SwarmClient.complete`."""
        return self._thread.run(self._swarm.complete(job, **parameters))

    def map(
        self, jobs: Iterable[JobSpec | str], *, on_progress: Callable[[Progress], None] | None = None, **options: Any
    ) -> list[Outcome]:
        """See `SwarmClient.map`. `on_progress` is called in the swarm's own thread; what it raises is raised here.
        Ctrl-C cancels the jobs.
        """
        check_jobs(jobs)
        # Here, since nothing goes on in that thread while a generator makes the next question.
        return self._thread.run(self._swarm.map(list(jobs), on_progress=on_progress, **options))

    def stream(self, job: JobSpec | str = "", **parameters: Any) -> Iterator[str | Answer]:
        """See `SwarmClient.stream`."""
        return self._thread.each(self._swarm.stream(job, **parameters))

    def providers(self) -> list[Listing]:
        """Who is alive."""
        return self._thread.run(self._list())

    @property
    def _swarm(self) -> SwarmClient:
        if self._client is None:
            raise UnreachableError("this swarm is closed")
        return self._client

    async def _open(self) -> None:
        pool = RelayPool(self._relays, secret=self._secret)
        pool.start()
        self._exit.push_async_callback(pool.close)
        try:
            await pool.wait_open(self._wait_s)
        except UnreachableError as error:
            raise UnreachableError(str(error), hint=f"Start one with `pylon relay`. {_NAME_ONE}") from error
        client = SwarmClient(pool, self._secret, settings=self._settings)
        self._client = await self._exit.enter_async_context(client)
        await client.caught_up(self._wait_s)

    async def _close(self) -> None:
        await self._exit.aclose()
        self._client = None

    async def _list(self) -> list[Listing]:
        return list(self._swarm.directory)
