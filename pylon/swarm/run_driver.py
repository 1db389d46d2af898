"""Drives one run from the call to the last outcome: takes up what an earlier process left of it, and asks the
rest."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from pylon.errors import UnreachableError
from pylon.swarm.compose import priced_size
from pylon.swarm.job import JobSpec
from pylon.swarm.parts import Parts
from pylon.swarm.runs.journal import RunJournal
from pylon.swarm.runs.kept import Kept
from pylon.swarm.runs.reservation import CallReservation
from pylon.swarm.runs.run import Run

# Seconds that a run that is taken up waits for receipts of its earlier requests. The cost of requests without one by
# then is set aside.
RECEIPTS_S = 10.0


class RunDriver:
    """See the module."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def ask(self, run: Run, *, within_s: float, reservation: CallReservation | None, priority: int) -> None:
        """Asks the run, and returns when each place has an outcome, after `within_s` seconds at the latest.

        Raises what a callback of the caller's raised. Cancelling it ends the run.
        """
        runs, deadline = self._parts.runs, self._parts.clock.monotonic() + within_s
        runs.open(run, deadline=deadline, priority=priority)
        try:
            kept, charged = await self._kept(run.journal, deadline)
            run.msat = run.before = sum(charged.values())
            if reservation is not None and runs.is_open(run):
                runs.fund(run, reservation)
                await runs.owe(run, kept, charged)
            found, rest = await runs.take_up(run, kept, charged)
            await runs.ask(run, rest)
            if found:
                await self._parts.inbox.look_for(found)
            await run.done.wait()
            if run.broken is not None:
                raise run.broken
            if run.journal is not None:
                await run.journal.ended()
        finally:
            runs.drop(run)
            if reservation is not None:
                reservation.end()

    async def charged(self, kept: Kept) -> Mapping[str, int]:
        """What the requests that an earlier process sent for a run were charged, in msat, as far as that is known."""
        return {} if self._parts.purse is None else await self._parts.purse.charged(kept.requests)

    def nobody(self, spec: JobSpec) -> UnreachableError:
        """The error that says who is there, why no provider takes this question, and what to do about it."""
        parts = self._parts
        return parts.outlook.lack(parts.runs.need(spec), parts.pool.refusals, priced_size(spec)).error()

    async def _kept(self, journal: RunJournal | None, deadline: float) -> tuple[Kept, Mapping[str, int]]:
        """What an earlier process left of a run, and what was charged, by request."""
        if journal is None or not journal.taken_up:
            return Kept({}, ()), {}
        kept = await journal.kept()
        if (late := self._parts.late) is not None:
            # Providers may have answered, and charged, while nobody was there.
            with suppress(TimeoutError):
                within_s = min(RECEIPTS_S, max(0.0, deadline - self._parts.clock.monotonic()))
                await asyncio.wait_for(late.caught_up.wait(), within_s)
        return kept, await self.charged(kept)
