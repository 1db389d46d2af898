"""The jobs that wait for the engine, and which of them runs next.

Jobs of trusted keys go first. The others wait in lines, one for each standing of a customer, and the lines take
turns: a flood of new keys takes every other turn from known customers, and no more. In a line its customers take
turns, each with its oldest job: a customer that sends a thousand jobs delays another one by a single job.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping

from pylon.jobs.request import ReceivedRequest
from pylon.money.accounts.usage import Usage
from pylon.nostr.event import Event
from pylon.provider.admission import Accept
from pylon.provider.customers import Standing
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
    # What its customer was when the job was taken on.
    standing: Standing = Standing.STRANGER
    # How much of the answer an earlier process had sent in pieces; None if it had sent none.
    sent: Usage | None = None
    # An earlier process may have sent pieces of its answer.
    again: bool = False
    # An earlier process took it on.
    left: bool = False

    @property
    def id(self) -> str:
        return self.request.id


class _Line:
    """Jobs by customer, in the order of the customers' turns."""

    def __init__(self) -> None:
        self.turns: OrderedDict[str, deque[Job]] = OrderedDict()
        self.jobs = 0

    def push(self, job: Job) -> None:
        self.turns.setdefault(job.request.customer, deque()).append(job)
        self.jobs += 1

    def pop(self) -> Job:
        customer, jobs = next(iter(self.turns.items()))
        job = jobs.popleft()
        self.turns.move_to_end(customer)
        self._removed(customer)
        return job

    def remove(self, job: Job) -> None:
        customer = job.request.customer
        self.turns[customer].remove(job)
        self._removed(customer)

    def _removed(self, customer: str) -> None:
        self.jobs -= 1
        if not self.turns[customer]:
            del self.turns[customer]

    def ahead(self, job: Job) -> int:
        """How many jobs of this line come before this one."""
        turns, customer = self.turns, job.request.customer
        jobs = turns[customer]
        # Most often this is the customer's latest job.
        own = len(jobs) - 1 if jobs[-1] is job else next(at for at, other in enumerate(jobs) if other is job)
        if not own and next(reversed(turns)) == customer:
            return len(turns) - 1
        if len(turns) > _MANY:
            return min(self.jobs - 1, own + (own + 1) * (len(turns) - 1))
        return own + _before(customer, own, {other: len(jobs) for other, jobs in turns.items()})


def _before[K](mine: K, rounds: int, waiting: Mapping[K, int]) -> int:
    """How many of the others' `waiting` jobs are done before `mine` has had `rounds` turns and has its next one.

    All take turns in the order of `waiting`.
    """
    count, turn = 0, 1
    for other, jobs in waiting.items():
        if other == mine:
            # Those behind have had one turn less when this turn comes.
            turn = 0
        else:
            count += min(jobs, rounds + turn)
    return count


class JobQueue:
    """A queue of jobs. Pure: the time is passed in."""

    def __init__(self) -> None:
        self._trusted = _Line()
        # Only those where jobs wait, in the order of their turns.
        self._lines: OrderedDict[Standing, _Line] = OrderedDict()
        self._jobs: dict[str, Job] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    def get(self, job_id: str) -> Job | None:
        """The job, which stays in the queue; None if it is not there."""
        return self._jobs.get(job_id)

    def of_customer(self, customer: str) -> int:
        """How many of this customer's jobs are in the queue."""
        return sum(len(line.turns.get(customer, ())) for line in (self._trusted, *self._lines.values()))

    def in_line(self, standing: Standing) -> tuple[int, int]:
        """How many jobs wait in a line, and of how many customers."""
        line = self._lines.get(standing)
        return (0, 0) if line is None else (line.jobs, len(line.turns))

    def wait_s(self, job_id: str, slots: int, seconds_per_job: float) -> float:
        """The estimated seconds until this job begins; 0 for one that is not in the queue.

        With many customers, each is assumed to have as many jobs as this job's customer: a thousand strangers must
        not make the estimate slow.
        """
        job = self._jobs.get(job_id)
        return 0.0 if job is None else (self._ahead(job) + 0.5) / slots * seconds_per_job

    def _ahead(self, job: Job) -> int:
        if job.trusted:
            return self._trusted.ahead(job)
        ahead = self._lines[job.standing].ahead(job)
        if len(self._lines) > 1:
            waiting = {standing: line.jobs for standing, line in self._lines.items()}
            ahead += _before(job.standing, ahead, waiting)
        return self._trusted.jobs + ahead

    def push(self, job: Job) -> None:
        """Adds a job behind the others of its customer."""
        self._jobs[job.id] = job
        (self._trusted if job.trusted else self._lines.setdefault(job.standing, _Line())).push(job)

    def pop(self) -> Job | None:
        """Removes and returns the next job; None if there is none."""
        if self._trusted.jobs:
            job = self._trusted.pop()
        elif self._lines:
            standing, line = next(iter(self._lines.items()))
            job = line.pop()
            self._lines.move_to_end(standing)
            self._drop_if_empty(standing)
        else:
            return None
        del self._jobs[job.id]
        return job

    def remove(self, job_id: str) -> Job | None:
        """Removes and returns this job; None if it is not in the queue."""
        job = self._jobs.pop(job_id, None)
        if job is not None and job.trusted:
            self._trusted.remove(job)
        elif job is not None:
            self._lines[job.standing].remove(job)
            self._drop_if_empty(job.standing)
        return job

    def _drop_if_empty(self, standing: Standing) -> None:
        if not self._lines[standing].jobs:
            del self._lines[standing]

    def take_expired(self, now: float) -> list[Job]:
        """Removes and returns the jobs whose deadline has passed at `now` (Unix seconds)."""
        expired = [job for job in self._jobs.values() if job.terms.expires_at <= now]
        for job in expired:
            self.remove(job.id)
        return expired
