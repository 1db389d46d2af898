"""One run, from the call to the last outcome: what an earlier process left of it is taken up, the rest is asked."""

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

# So long a run that is taken up waits for the receipts of what it had sent; what is not known by then is set aside.
RECEIPTS_S = 10.0


class RunDriver:
    """See the module."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def ask(self, run: Run, *, within_s: float, reservation: CallReservation | None, priority: int) -> None:
        """Returns when each of its places has an outcome, `within_s` seconds from now at the latest. Raises what a
        caller's function raised. A run that is not waited for any more is over."""
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
        """What a run that an earlier process left was charged by request, in msat, as far as that is known."""
        return {} if self._parts.purse is None else await self._parts.purse.charged(kept.requests)

    def nobody(self, spec: JobSpec) -> UnreachableError:
        """Who is there, why nobody takes this, and what to do about it."""
        parts = self._parts
        return parts.outlook.lack(parts.runs.need(spec), parts.pool.refusals, priced_size(spec)).error()

    async def _kept(self, journal: RunJournal | None, deadline: float) -> tuple[Kept, Mapping[str, int]]:
        """What an earlier process left of a run, and what it was charged by request."""
        if journal is None or not journal.taken_up:
            return Kept({}, ()), {}
        kept = await journal.kept()
        if (late := self._parts.late) is not None:
            # Providers may have answered, and charged, while nobody was there.
            with suppress(TimeoutError):
                within_s = min(RECEIPTS_S, max(0.0, deadline - self._parts.clock.monotonic()))
                await asyncio.wait_for(late.caught_up.wait(), within_s)
        return kept, await self.charged(kept)
