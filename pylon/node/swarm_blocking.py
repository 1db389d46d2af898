"""The swarm for scripts and notebooks, asked through a home.

    with NodeSwarm() as swarm:
        print(swarm.complete("How many legs has a spider?", max_tokens=16).text)

Everything runs in a separate thread, so it also works where an event loop is running already, as in Jupyter.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pylon.loop_thread import Blocking
from pylon.node.swarm_client import NodeSwarmClient
from pylon.swarm.job import Answer, JobSpec, Outcome
from pylon.swarm.runs.question_checks import check_jobs


class NodeSwarm(Blocking):
    """A `NodeSwarmClient` in a thread. Raises what the client raises, and `UsageError` where a call would never
    return: within a function that it calls itself, and in a process that was forked after it was made."""

    def __init__(self, home: Path | str | None = None) -> None:
        self._client = NodeSwarmClient(home)
        super().__init__("swarm")

    def complete(self, job: JobSpec | str = "", **parameters: Any) -> Answer:
        """See `NodeSwarmClient.complete`."""
        return self._thread.run(self._client.complete(job, **parameters))

    def map(self, jobs: Iterable[JobSpec | str], **options: Any) -> list[Outcome]:
        """See `NodeSwarmClient.map`. `on_progress` and `on_outcome` are called in the swarm's own thread. Ctrl-C
        cancels the jobs."""
        check_jobs(jobs)
        # Listed in this thread: a slow generator would block the other one.
        return self._thread.run(self._client.map(list(jobs), **options))

    def stream(self, job: JobSpec | str = "", **parameters: Any) -> Iterator[str | Answer]:
        """See `NodeSwarmClient.stream`."""
        return self._thread.each(self._client.stream(job, **parameters))

    def providers(self, **wanted: Any) -> list[dict[str, Any]]:
        """See `NodeSwarmClient.providers`."""
        return self._thread.run(self._client.providers(**wanted))

    async def _open(self) -> None:
        await self._client.__aenter__()

    async def _close(self) -> None:
        await self._client.close()
