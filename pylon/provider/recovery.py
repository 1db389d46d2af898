"""After a restart: what the last process left is taken up, from the journal alone."""

from pylon import log
from pylon.clock import Clock
from pylon.jobs.codes import ErrorCode
from pylon.provider.in_hand import InHand
from pylon.provider.journal import Journal
from pylon.provider.judge import Judge
from pylon.provider.open_cancels import OpenCancels
from pylon.provider.results import Results
from pylon.provider.rows import JobState, Pending
from pylon.provider.settlement import Settlement

logger = log.get("provider")


class Recovery:
    """Results that no relay has acknowledged are published again, jobs that have none are run, or wait, again."""

    def __init__(
        self,
        *,
        journal: Journal,
        judge: Judge,
        in_hand: InHand,
        open_cancels: OpenCancels,
        results: Results,
        settlement: Settlement,
        clock: Clock,
    ) -> None:
        self._journal = journal
        self._judge = judge
        self._in_hand = in_hand
        self._open_cancels = open_cancels
        self._results = results
        self._settlement = settlement
        self._clock = clock

    async def run(self) -> None:
        """Takes all of it up, oldest first."""
        again = 0
        for pending in await self._journal.pending():
            if pending.result is not None:
                # The result's own first `e` tag names the request; only the result is kept once it is signed.
                self._results.publish(pending.result, pending.result.tag("e") or "", pending.relay)
            elif await self._take_up(pending):
                again += 1
        if again:
            logger.info("taking up jobs that were left", jobs=again)

    async def _take_up(self, pending: Pending) -> bool:
        job = self._judge.restore(pending)
        if job is None:
            code, now = ErrorCode.EXPIRED.value, self._clock.wall()
            await self._settlement.end(pending.event.id, JobState.EXPIRED, code=code, finished_at=now)
            return False
        self._open_cancels.add(job)
        if pending.state is JobState.AWAITING_FUNDS and not self._in_hand.takes_payment:
            # Work has become free since. Of a queued job alone a result is ever written down.
            await self._journal.may_run(job.id)
        await self._in_hand.restore(job, pending.state)
        return True
