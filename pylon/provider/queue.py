"""Which job runs next: trusted keys first, then every customer in turn, the oldest job of each.

Turns are per customer and not per job, so that one who sends a thousand jobs delays another by one job only.
"""

from collections import OrderedDict, deque

from pylon.jobs.request import ReceivedRequest
from pylon.money.accounts.usage import Usage
from pylon.nostr.event import Event
from pylon.provider.admission import Accept
from pylon.records import record

# Among so many customers turns are not counted one by one.
_MANY = 64


@record
class Job:
    """An admitted request. `received_at` is wall time, `relay` where it came from.

    `event` is None, and `request` says nothing of the prompt, while the journal alone has them (`contents`).
    `left`: an earlier process took it on. `again`: that may have sent pieces of an answer to it, and `sent` is how
    much of that relays have.
    """

    request: ReceivedRequest
    event: Event | None
    terms: Accept
    received_at: float
    relay: str
    trusted: bool = False
    sent: Usage | None = None
    again: bool = False
    left: bool = False

    @property
    def id(self) -> str:
        return self.request.id


class JobQueue:
    """The jobs that wait. Pure: expiry is judged by the `now` it is given."""

    def __init__(self) -> None:
        self._turns: dict[bool, OrderedDict[str, deque[Job]]] = {True: OrderedDict(), False: OrderedDict()}
        self._jobs: dict[str, Job] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def get(self, job_id: str) -> Job | None:
        """The job, where it stands, or None when it does not wait here."""
        return self._jobs.get(job_id)

    def of_customer(self, customer: str) -> int:
        """How many jobs of this customer wait."""
        return sum(len(turns.get(customer, ())) for turns in self._turns.values())

    def wait_s(self, job_id: str, slots: int, seconds_per_job: float) -> float:
        """How long it takes until this job begins, as things stand; 0 for one that does not wait here.

        Where many customers wait it is taken that each has as many jobs as this one's: a guess costs no more for
        thousands of strangers than for a few.
        """
        job = self._jobs.get(job_id)
        return 0.0 if job is None else (self._ahead(job) + 0.5) / slots * seconds_per_job

    def _ahead(self, job: Job) -> int:
        turns = self._turns[job.trusted]
        customer = job.request.customer
        jobs = turns[customer]
        # Most often it is asked of the latest.
        own = len(jobs) - 1 if jobs[-1] is job else next(at for at, other in enumerate(jobs) if other is job)
        ahead = own if job.trusted else own + sum(map(len, self._turns[True].values()))
        if not own and next(reversed(turns)) == customer:
            return ahead + len(turns) - 1
        if len(turns) > _MANY:
            return min(len(self._jobs) - 1, ahead + (own + 1) * (len(turns) - 1))
        turn = 1
        for other, jobs in turns.items():
            if other == customer:
                # Those behind it in the turn have had one job less when this one's turn comes.
                turn = 0
            else:
                ahead += min(len(jobs), own + turn)
        return ahead

    def push(self, job: Job) -> None:
        """Adds a job behind the others of its customer."""
        self._jobs[job.id] = job
        self._turns[job.trusted].setdefault(job.request.customer, deque()).append(job)

    def pop(self) -> Job | None:
        """Takes the next job out, or None."""
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
        """Takes one job out, or None when it does not wait here."""
        job = self._jobs.pop(job_id, None)
        if job is not None:
            turns = self._turns[job.trusted]
            turns[job.request.customer].remove(job)
            if not turns[job.request.customer]:
                del turns[job.request.customer]
        return job

    def take_expired(self, now: float) -> list[Job]:
        """Takes out every job whose deadline has passed at `now` (Unix seconds)."""
        expired = [job for job in self._jobs.values() if job.terms.expires_at <= now]
        for job in expired:
            self.remove(job.id)
        return expired
