"""The jobs that wait for the engine, and which of them runs next.

Jobs of trusted keys go first. Otherwise customers take turns, each with its oldest job: a customer that sends a
thousand jobs delays another one by a single job.
"""

from collections import OrderedDict, deque

from pylon.jobs.request import ReceivedRequest
from pylon.money.accounts.usage import Usage
from pylon.nostr.event import Event
from pylon.provider.admission import Accept
from pylon.records import record

# With more customers than this, the wait of a job is estimated without counting every customer's jobs.
_MANY = 64


@record
class Job:
    """An admitted request."""

    # Without its prompt and parameters, and `event` is None, while only the journal has them (`contents`).
    request: ReceivedRequest
    event: Event | None
    terms: Accept
    # Unix seconds.
    received_at: float
    # The URL of the relay that it came from.
    relay: str
    trusted: bool = False
    # How much of the answer an earlier process had sent in pieces; None if it had sent none.
    sent: Usage | None = None
    # An earlier process may have sent pieces of its answer.
    again: bool = False
    # An earlier process took it on.
    left: bool = False

    @property
    def id(self) -> str:
        return self.request.id


class JobQueue:
    """A queue of jobs. Pure: the time is passed in."""

    def __init__(self) -> None:
        self._turns: dict[bool, OrderedDict[str, deque[Job]]] = {True: OrderedDict(), False: OrderedDict()}
        self._jobs: dict[str, Job] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def get(self, job_id: str) -> Job | None:
        """The job, which stays in the queue; None if it is not there."""
        return self._jobs.get(job_id)

    def of_customer(self, customer: str) -> int:
        """How many of this customer's jobs are in the queue."""
        return sum(len(turns.get(customer, ())) for turns in self._turns.values())

    def wait_s(self, job_id: str, slots: int, seconds_per_job: float) -> float:
        """The estimated seconds until this job begins; 0 for one that is not in the queue.

        With many customers, each is assumed to have as many jobs as this job's customer: a thousand strangers must
        not make the estimate slow.
        """
        job = self._jobs.get(job_id)
        return 0.0 if job is None else (self._ahead(job) + 0.5) / slots * seconds_per_job

    def _ahead(self, job: Job) -> int:
        turns = self._turns[job.trusted]
        customer = job.request.customer
        jobs = turns[customer]
        # Most often this is the customer's latest job.
        own = len(jobs) - 1 if jobs[-1] is job else next(at for at, other in enumerate(jobs) if other is job)
        ahead = own if job.trusted else own + sum(map(len, self._turns[True].values()))
        if not own and next(reversed(turns)) == customer:
            return ahead + len(turns) - 1
        if len(turns) > _MANY:
            return min(len(self._jobs) - 1, ahead + (own + 1) * (len(turns) - 1))
        turn = 1
        for other, jobs in turns.items():
            if other == customer:
                # Customers behind this one have had one turn less when this job's turn comes.
                turn = 0
            else:
                ahead += min(len(jobs), own + turn)
        return ahead

    def push(self, job: Job) -> None:
        """Adds a job behind the others of its customer."""
        self._jobs[job.id] = job
        self._turns[job.trusted].setdefault(job.request.customer, deque()).append(job)

    def pop(self) -> Job | None:
        """Removes and returns the next job; None if there is none."""
        for turns in (self._turns[True], self._turns[False]):
            if turns:
                customer, jobs = next(iter(turns.items()))
                job = jobs.popleft()
                turns.move_to_end(customer)
                if not jobs:
                    del turns[customer]
                del self._jobs[job.id]
                return job
        return None

    def remove(self, job_id: str) -> Job | None:
        """Removes and returns this job; None if it is not in the queue."""
        job = self._jobs.pop(job_id, None)
        if job is not None:
            turns = self._turns[job.trusted]
            turns[job.request.customer].remove(job)
            if not turns[job.request.customer]:
                del turns[job.request.customer]
        return job

    def take_expired(self, now: float) -> list[Job]:
        """Removes and returns the jobs whose deadline has passed at `now` (Unix seconds)."""
        expired = [job for job in self._jobs.values() if job.terms.expires_at <= now]
        for job in expired:
            self.remove(job.id)
        return expired
