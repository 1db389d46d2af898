"""Takes readings in a thread of their own, which may hang without blocking the event loop.

A call to a driver or a library of the system may never return. So it uses no shared pool of threads, and the process
ends without waiting for it.
"""

import asyncio
import threading
from contextlib import suppress

from pylon import log
from pylon.host.readings import Machine, Readings, Sense, read

logger = log.get("host")

# Seconds: more than all programs together may take.
WITHIN_S = 10.0


class Reader:
    """Asks a machine for the `wanted` readings, for `within_s` seconds at most."""

    def __init__(self, machine: Machine, wanted: frozenset[Sense], within_s: float = WITHIN_S) -> None:
        self._machine = machine
        self._wanted = wanted
        self._within_s = within_s
        self._pending: asyncio.Future[Readings] | None = None
        self._told = False

    async def read(self) -> Readings:
        """The readings; unknown if they take too long, and while an earlier call hangs. Raises nothing."""
        if not self._wanted:
            return Readings()
        if self._pending is None:
            loop = asyncio.get_running_loop()
            self._pending = loop.create_future()
            threading.Thread(target=self._ask, args=(loop, self._pending), name="readings", daemon=True).start()
        pending = self._pending
        await asyncio.wait({pending}, timeout=self._within_s)
        if not pending.done():
            if not self._told:
                logger.warning("the machine does not answer; its state is not known", after_s=self._within_s)
            self._told = True
            return Readings()
        self._pending, self._told = None, False
        return pending.result()

    def _ask(self, loop: asyncio.AbstractEventLoop, pending: asyncio.Future[Readings]) -> None:
        found = read(self._machine, self._wanted)
        # The event loop may have closed meanwhile.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, pending, found)


def _settle(pending: asyncio.Future[Readings], found: Readings) -> None:
    if not pending.done():
        pending.set_result(found)
