"""After a restart: what the last process left is taken up, from the journal alone."""

from pylon import log
from pylon.provider.intake.open_cancels import OpenCancels
from pylon.provider.journal import Journal
from pylon.provider.judge import Judge
from pylon.provider.queue import Job
from pylon.provider.rows import JobState, Pending
from pylon.provider.work.in_hand import InHand
from pylon.provider.work.results import Results

logger = log.get("provider")


class Recovery:
    """What no relay has acknowledged is published again. Jobs that have no result are run, or wait, again; those that
    can no longer be read or run end, and their customers are told why.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        judge: Judge,
        in_hand: InHand,
        open_cancels: OpenCancels,
        results: Results,
    ) -> None:
        self._journal = journal
        self._judge = judge
        self._in_hand = in_hand
        self._open_cancels = open_cancels
        self._results = results

    async def run(self) -> None:
        """Takes all of it up, oldest first."""
        again = 0
        async for pending in self._journal.pending():
            if pending.result is not None:
                # Its own first `e` tag names the request; nothing but it is kept once it is signed.
                again_out = self._results.publish if pending.state is JobState.SIGNED else self._results.tell
                again_out(pending.result, pending.result.tag("e") or "", pending.relay)
            elif await self._take_up(pending):
                again += 1
        if again:
            logger.info("resuming jobs that were left unfinished", jobs=again)

    async def _take_up(self, pending: Pending) -> bool:
        job = self._judge.restore(pending)
        if not isinstance(job, Job):
            await self._results.end_left(pending.event.id, job)
            return False
        self._open_cancels.add(job)
        if pending.state is JobState.AWAITING_FUNDS and not self._in_hand.takes_payment:
            # Work has become free since. Of a queued job alone a result is ever written down.
            await self._journal.may_run(job.id)
        await self._in_hand.restore(job, pending.state)
        return True
