"""Which job runs next: trusted keys first, then every customer in turn, the oldest job of each.

Turns are per customer and not per job, so that one who sends a thousand jobs delays another by one job only.
"""

from collections import OrderedDict, deque

from pylon.jobs.request import ReceivedRequest
from pylon.nostr.event import Event
from pylon.provider.admission import Accept
from pylon.records import record


@record
class Job:
    """An admitted request. `received_at` is wall time, `relay` where it came from."""

    request: ReceivedRequest
    event: Event
    terms: Accept
    received_at: float
    relay: str
    trusted: bool = False

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

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    def of_customer(self, customer: str) -> int:
        """How many jobs of this customer wait."""
        return sum(len(turns.get(customer, ())) for turns in self._turns.values())

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
