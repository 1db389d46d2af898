"""Takes up, after a restart, what the last process left in the journal."""

from pylon import log
from pylon.provider.intake.open_cancels import OpenCancels
from pylon.provider.journal import Journal
from pylon.provider.judge import Judge
from pylon.provider.queue import Job
from pylon.provider.rows import JobState, Pending
from pylon.provider.work.active_jobs import ActiveJobs
from pylon.provider.work.results import Results

logger = log.get("provider")


class Recovery:
    """Publishes again what no relay has acknowledged. Jobs without a result run or wait again; those that can no
    longer be read or run end, and their customers are told why.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        judge: Judge,
        active_jobs: ActiveJobs,
        open_cancels: OpenCancels,
        results: Results,
    ) -> None:
        self._journal = journal
        self._judge = judge
        self._active_jobs = active_jobs
        self._open_cancels = open_cancels
        self._results = results

    async def run(self) -> None:
        """Takes up everything, the oldest first. Raises `sqlite3.Error`."""
        again = 0
        async for pending in self._journal.pending():
            if pending.result is not None:
                # The first `e` tag names the request, whose own event is not kept once there is a result.
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
        if pending.state is JobState.AWAITING_FUNDS and not self._active_jobs.takes_payment:
            # The provider has become free of charge since. A result is written only for a job that is queued.
            await self._journal.may_run(job.id)
        await self._active_jobs.restore(job, pending.state)
        return True
