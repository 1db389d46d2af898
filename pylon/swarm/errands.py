"""Work beside the caller's own: begun at once, waited for by nobody, its failure logged."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from pylon import log

logger = log.get("swarm")

type Work = Coroutine[Any, Any, None]


class Errands:
    """`failed` is what the log says of one that failed; `ended` is called after each."""

    def __init__(self, failed: str, ended: Callable[[], None] | None = None) -> None:
        self.running: set[asyncio.Task[None] | None] = set()
        self._failed = failed
        self._ended = ended

    def begin(self, work: Work) -> None:
        """Runs it up to where it first waits, which is most of what there is to do, and the rest in its time."""
        loop = asyncio.get_running_loop()
        task = asyncio.Task(self._do(work), loop=loop, name="swarm errand", eager_start=True)
        if not task.done():
            self.running.add(task)

    async def wait(self) -> None:
        """Returns when those are done that are out now."""
        await asyncio.gather(*filter(None, self.running), return_exceptions=True)

    def cancel(self) -> None:
        """Ends all."""
        for task in filter(None, self.running):
            task.cancel()

    async def _do(self, work: Work) -> None:
        # It takes its leave itself: a callback for that would take a turn of the event loop each time.
        try:
            await work
        except Exception as error:
            logger.error(self._failed, error=repr(error))
        finally:
            self.running.discard(asyncio.current_task())
            if self._ended is not None:
                self._ended()
