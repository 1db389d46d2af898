"""The jobs that wait for a payment, and what their customers were told. Pure.

A customer has at most one open invoice, and all its jobs wait for that one. Jobs of customers that have never paid
have a limit of their own, since keys cost nothing. They stand in line once as many invoices were made for such keys
as the wallet may make.
"""

from dataclasses import dataclass, field

from pylon.money.invoices.receiver import EXPIRY_S, GRACE_S
from pylon.money.invoices.store import Issued
from pylon.provider.payments.fair_queue import FairQueue
from pylon.provider.queue import Job

# How long a job waits for a payment: as long as an invoice can be paid.
PATIENCE_S = EXPIRY_S + GRACE_S


@dataclass(slots=True)
class WaitingJob:
    """A job that waits for a payment."""

    job: Job
    # The invoice that its customer was told of last.
    told: Issued | None = None
    # It must make room for another job.
    crowded_out: bool = False

    def is_late(self, now: float) -> bool:
        """Whether it has waited for as long as it may. `now` is in Unix seconds."""
        return self.crowded_out or now >= min(self.job.terms.expires_at, self.job.received_at + PATIENCE_S)


@dataclass(slots=True)
class Customer:
    """A customer with jobs that wait (by id), or for whom an invoice is being made."""

    jobs: dict[str, WaitingJob] = field(default_factory=dict)
    # An invoice is being made, and is not in the database yet.
    asked: bool = False
    # A job has gone, maybe the one that the open invoice was made for.
    left: bool = False
    # The open invoice fits no waiting job, and must be replaced.
    misfit: bool = False


class Waiting:
    """At most `most` jobs of customers that have never paid may wait. Times are passed in, in Unix seconds."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._jobs: dict[str, WaitingJob] = {}
        self._customers: dict[str, Customer] = {}
        # Jobs whose customers have never paid, and those of them for which no invoice may be made yet.
        self._newcomers, self._line = FairQueue(), FairQueue()

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    @property
    def newcomers(self) -> int:
        """How many jobs of customers that have never paid wait."""
        return len(self._newcomers)

    def get(self, job_id: str) -> Job | None:
        """The job; None if it does not wait."""
        waiting = self._jobs.get(job_id)
        return None if waiting is None else waiting.job

    def of_customer(self, customer: str) -> list[Job]:
        """This customer's jobs, in the order in which they came."""
        known = self._customers.get(customer)
        return [] if known is None else [waiting.job for waiting in known.jobs.values()]

    def add(self, job: Job, *, newcomer: bool = False) -> None:
        """Adds a job, unless it is here. `newcomer`: its customer has never paid."""
        waiting = self._jobs.setdefault(job.id, WaitingJob(job))
        self._customers.setdefault(job.request.customer, Customer()).jobs[job.id] = waiting
        if newcomer:
            self._newcomers.add(job)

    def remove(self, job_id: str) -> None:
        """Removes a job. Unknown ones are ignored."""
        waiting = self._jobs.pop(job_id, None)
        if waiting is None:
            return
        self._newcomers.remove(job_id)
        self._line.remove(job_id)
        customer = waiting.job.request.customer
        del self._customers[customer].jobs[job_id]
        self._drop_if_done(customer)

    def late(self, now: float) -> list[Job]:
        """The jobs that have waited for as long as they may, and those that must make room for others."""
        return [waiting.job for waiting in self._jobs.values() if waiting.is_late(now)]

    # --- invoices -----------------------------------------------------------------------------------------------

    def asks(self, customer: str) -> None:
        """Notes that an invoice is being made for this customer."""
        self._customers.setdefault(customer, Customer()).asked = True

    def asked(self, customer: str) -> None:
        """Notes that it was made, or could not be."""
        if (known := self._customers.get(customer)) is not None:
            known.asked = False
            self._drop_if_done(customer)

    def is_asked(self, customer: str) -> bool:
        """Whether an invoice is being made for this customer."""
        known = self._customers.get(customer)
        return known is not None and known.asked

    def invoiced(self, job: Job) -> None:
        """Notes that an invoice was made for this job. Its customer's jobs leave the line; another relay is next."""
        self._line.served(job.id)
        for other in self.of_customer(job.request.customer):
            self._line.remove(other.id)

    def tell(self, job_id: str, issued: Issued) -> bool:
        """Notes that a job's customer is told of this invoice; False if it knows it, or the job does not wait."""
        waiting = self._jobs.get(job_id)
        if waiting is None or (waiting.told is not None and waiting.told.payment_hash == issued.payment_hash):
            return False
        waiting.told = issued
        return True

    def told(self, job_id: str) -> Issued | None:
        """The invoice that a job's customer was told of last; None if there is none."""
        waiting = self._jobs.get(job_id)
        return None if waiting is None else waiting.told

    def left(self, customer: str) -> None:
        """Notes that a job of this customer has gone. If it had the open invoice, others need a new decision."""
        if (known := self._customers.get(customer)) is not None:
            known.left = True

    def had_left(self, customer: str) -> bool:
        """Whether a job has gone since the last call."""
        known = self._customers.get(customer)
        if known is None or not known.left:
            return False
        known.left = False
        return True

    def misfits(self, customer: str, misfits: bool) -> None:
        """Notes whether this customer's open invoice fits no waiting job, and must be replaced."""
        if (known := self._customers.get(customer)) is not None:
            known.misfit = misfits

    def is_misfit(self, customer: str) -> bool:
        """Whether `misfits` noted that."""
        known = self._customers.get(customer)
        return known is not None and known.misfit

    def behind_invoices(self) -> list[str]:
        """The customers whose jobs should be waiting for an open invoice."""
        in_line = {job.request.customer for job in self._line}
        return [
            customer for customer, known in self._customers.items() if not known.asked and customer not in in_line
        ]

    # --- those that have never paid -----------------------------------------------------------------------------

    def has_room(self, now: float) -> bool:
        """Whether a job of a new customer may wait, if necessary in the place of another."""
        return len(self._newcomers) < self._most or self._newcomers.makes_room(now) is not None

    def makes_room(self, now: float) -> bool:
        """Whether a job of a new customer may wait, if necessary in the place of another.

        The other job is `late` from then on, and is ended as such. If its invoice is paid later, that becomes credit.
        """
        if len(self._newcomers) < self._most:
            return True
        oldest = self._newcomers.makes_room(now)
        if oldest is None:
            return False
        self._newcomers.remove(oldest.id)
        self._jobs[oldest.id].crowded_out = True
        return True

    def has_paid(self, customer: str) -> None:
        """Notes that a customer has paid: it no longer counts as new."""
        for job in self.of_customer(customer):
            self._newcomers.remove(job.id)

    def must_stand_in_line(self, job: Job) -> bool:
        """Whether other jobs of new customers come before this one. A job in line is decided on at its turn."""
        return job.id in self._newcomers and len(self._line) > 0 and job.id not in self._line

    def stand_in_line(self, job: Job) -> bool:
        """Puts a job in line for an invoice; False if it is in line already, or does not wait."""
        return job.id in self._jobs and self._line.add(job)

    @property
    def relays_in_line(self) -> int:
        """How many relays the jobs in line came over. These take turns."""
        return self._line.relays

    def next_in_line(self) -> Job | None:
        """The job whose turn it is; None if there is none, or an invoice is being made for its customer."""
        job = self._line.next()
        return None if job is None or self.is_asked(job.request.customer) else job

    def _drop_if_done(self, customer: str) -> None:
        # What is remembered of a customer only concerns jobs that wait.
        known = self._customers[customer]
        if not known.jobs and not known.asked:
            del self._customers[customer]
