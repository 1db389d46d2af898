"""How busy the provider is, for the admission of jobs and for heartbeats."""

from collections.abc import Sequence

from pylon.inference.service import InferenceService
from pylon.provider.admission import Load
from pylon.provider.customers import Customers, Standing
from pylon.provider.pauses import Pauses
from pylon.provider.queue import Job
from pylon.provider.work.active_jobs import ActiveJobs
from pylon.provider.work.runner import Runner


class Occupancy:
    """Counts the jobs of one engine, which runs the model of this id."""

    def __init__(
        self,
        *,
        inference: InferenceService,
        model: str,
        runner: Runner,
        active_jobs: ActiveJobs,
        pauses: Pauses,
        customers: Customers,
    ) -> None:
        self._inference = inference
        self._model = model
        self._runner = runner
        self._active_jobs = active_jobs
        self._pauses = pauses
        self._customers = customers

    def load(self, customer: str, ahead: Sequence[Job]) -> Load:
        """The load that a request of this customer is judged by, with the jobs `ahead` of it counted."""
        model, active_jobs = self._inference.model, self._active_jobs
        unpaid = active_jobs.unpaid_of(customer)
        paid = active_jobs.paid_of(customer) + sum(1 for job in ahead if job.request.customer == customer)
        standing = self._customers.standing(customer)
        waiting, others = self._runner.queue.in_line(standing)
        if ahead:
            same = [job.request.customer for job in ahead if job.standing is standing and not job.trusted]
            waiting += len(same)
            # Some may have jobs in the line already: counted twice, they leave a place empty until the next batch.
            others += len(set(same))
        return Load(
            models=((self._model, "" if model is None else model.sha256),),
            standing=standing,
            waiting=waiting,
            others=others,
            turn_s=others / self._inference.slots * self._runner.seconds_per_job,
            of_customer=unpaid + paid,
            paused=self._pauses.public_reason or ("engine" if self._inference.state == "failed" else ""),
            newcomers_full=standing is Standing.STRANGER and active_jobs.newcomers_full,
            wallet_down=active_jobs.wallet_down,
            schemas=self._inference.follows_schemas,
            unpaid_of_customer=unpaid,
            max_completion_tokens=0 if model is None else model.max_completion_tokens,
        )

    def room(self) -> tuple[int, float, str]:
        """The free slots, the seconds that the queue takes, and why no job is taken on (empty if jobs are)."""
        slots = self._inference.slots
        waiting = len(self._runner.queue)
        # A job whose answer is being written down takes no slot, as long as there are at most `slots` of these.
        free = max(0, min(slots - self._runner.computing, 2 * slots - len(self._runner.running)) - waiting)
        queue_s = waiting / slots * self._runner.seconds_per_job if waiting else 0.0
        return free, queue_s, self._pauses.public_reason
