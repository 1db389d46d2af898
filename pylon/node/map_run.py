"""Runs a `map` and reports its progress as the events of the call."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from itertools import islice
from typing import Any

from pylon.node.calls.params import AT_ONCE
from pylon.node.calls.protocol import Event
from pylon.node.loading import Loading
from pylon.node.outcomes import row_of
from pylon.swarm.client import SwarmClient
from pylon.swarm.job import JobSpec, Outcome, Progress
from pylon.swarm.meanwhile import meanwhile
from pylon.swarm.runs.question_checks import fault_in

# Seconds between two progress events: more of them would cost more than they tell.
REPORT_S = 0.1


class MapRun:
    """A run of `map` in progress. With `stream`, its events bring the outcomes."""

    def __init__(self, client: SwarmClient, specs: Sequence[JobSpec], *, stream: bool) -> None:
        self._stream = stream
        self.outcomes: list[Outcome] = []
        self.wall_s = 0.0
        self._client = client
        self._specs = specs
        # Of thousands of questions the first that can be asked stands for all.
        first = (spec for spec in specs[:AT_ONCE] if not fault_in(spec))
        self._waiting = Loading(client, islice(first, 1))
        self._loading, self._look_at = 0, 0.0
        self._latest = Progress(len(specs), 0, 0, 0)
        self._fresh: list[dict[str, Any]] = []
        self._came = asyncio.Event()

    async def run(self, **options: Any) -> AsyncGenerator[Event]:
        """Runs it, and yields events until it is done."""
        started = time.monotonic()
        on_outcome = self._outcome_came if self._stream else None
        mapping = self._client.map(self._specs, on_progress=self._progressed, on_outcome=on_outcome, **options)
        async with meanwhile(mapping, self._came.set) as asking:
            while not asking.done() or self._fresh:
                if self._stream:
                    await self._came.wait()
                    self._came.clear()
                else:
                    await asyncio.wait({asking}, timeout=REPORT_S)
                yield Event(await self.told())
            self.outcomes = await asking
        self.wall_s = time.monotonic() - started

    @property
    def msat(self) -> int:
        """What was charged for it, in msat, including second opinions and answers that were not used."""
        return self._latest.msat

    async def told(self) -> dict[str, Any]:
        """The progress, and with `stream` the outcomes that were not sent yet."""
        loading, now = await self._waited_for(), self._latest
        event: dict[str, Any] = {
            "done": now.answered + now.failed,
            "failed": now.failed,
            "paid_msat": now.msat,
            # Of all that this customer asks; the progress is as old as the last outcome.
            "in_flight": self._client.in_flight,
            "providers": len(self._client.directory),
            "loading": loading,
        }
        if self._fresh:
            event["outcomes"], self._fresh = self._fresh, []
        return event

    async def _waited_for(self) -> int:
        """How many providers are waited for because they are loading their model; none once there is an answer."""
        # Questions that are malformed fail before anybody is asked.
        if self._latest.answered:
            return 0
        if (now := time.monotonic()) >= self._look_at:
            self._loading = await self._waiting.look()
            self._look_at = now + self._waiting.rest_s
        return self._loading

    def _progressed(self, now: Progress) -> None:
        self._latest = now

    def _outcome_came(self, index: int, outcome: Outcome) -> None:
        self._fresh.append(row_of(index, outcome))
        self._came.set()
