"""What was seen of providers is written down every few seconds, and once more at the end."""

import asyncio
from dataclasses import dataclass

from pylon.store.database import Database
from pylon.swarm.checks import reputation_store
from pylon.swarm.checks.reputation import Reputation

EVERY_S = 5.0


@dataclass(slots=True)
class Remembering:
    """See the module."""

    database: Database
    reputation: Reputation
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="remembering providers")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await reputation_store.save(self.database, self.reputation)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            # A write that began is finished, whoever cancels this.
            await asyncio.shield(reputation_store.save(self.database, self.reputation))
