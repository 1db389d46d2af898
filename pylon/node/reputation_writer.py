"""Writes the reputation of providers to the database every few seconds, and once more at the end."""

import asyncio
import sqlite3
from dataclasses import dataclass, field

from pylon import log
from pylon.forever import forever
from pylon.store.database import Database
from pylon.swarm.checks import reputation_store
from pylon.swarm.checks.reputation import Reputation
from pylon.tasks import Tasks

logger = log.get("node")

EVERY_S = 5.0


@dataclass(slots=True)
class ReputationWriter:
    """See the module."""

    database: Database
    reputation: Reputation
    _tasks: Tasks = field(default_factory=Tasks)

    def start(self) -> None:
        self._tasks.start(forever(self._turn, "remembering providers"), "remembering providers")

    async def close(self) -> None:
        await self._tasks.close()
        try:
            await reputation_store.save(self.database, self.reputation)
        except sqlite3.Error as error:
            # No reason to fail: the answers that were asked for are complete.
            logger.error("recent observations of providers could not be stored", error=str(error))

    async def _turn(self) -> None:
        await asyncio.sleep(EVERY_S)
        # Shielded, so that a write that has begun is finished.
        await asyncio.shield(reputation_store.save(self.database, self.reputation))
