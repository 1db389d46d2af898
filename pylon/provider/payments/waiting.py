"""Who waits for a payment, and where each stands: values in, decisions out.

A customer has one open invoice at most, and its other jobs wait behind that one. Customers that have never paid are
bounded apart, since their keys cost nothing, and stand in a line when the wallet has made as many invoices for such
keys as it may.
"""

from dataclasses import dataclass, field

from pylon.money.invoices.receiver import EXPIRY_S, GRACE_S
from pylon.money.invoices.store import Issued
from pylon.provider.payments.newcomers import Newcomers
from pylon.provider.queue import Job

# As long as one invoice may be paid: whoever has not by then will not.
PATIENCE_S = EXPIRY_S + GRACE_S


@dataclass(slots=True)
class WaitingJob:
    """A job that waits."""

    job: Job
    # What its customer was told to pay for it.
    told: Issued | None = None
    # It makes room for another.
    crowded_out: bool = False

    def is_late(self, now: float) -> bool:
        """Whether it has waited for as long as it may."""
        return self.crowded_out or now >= min(self.job.terms.expires_at, self.job.received_at + PATIENCE_S)


@dataclass(slots=True)
class Customer:
    """Somebody whose jobs wait, by their ids, or who is being asked for a payment."""

    jobs: dict[str, WaitingJob] = field(default_factory=dict)
    # An invoice is being made, and there is no row yet that says so.
    asked: bool = False
    # A job of its has gone that may have been the one whose invoice is open.
    left: bool = False
    # Its open invoice is no waiting job's, and has to give way to another.
    misfit: bool = False


class Waiting:
    """Pure: `now` is given, in Unix seconds. `most` jobs of customers that have never paid may wait."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._jobs: dict[str, WaitingJob] = {}
        self._customers: dict[str, Customer] = {}
        # Jobs whose customers have never paid, and those of them for which no invoice may be made yet.
        self._newcomers, self._line = Newcomers(), Newcomers()

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    @property
    def newcomers(self) -> int:
        """Jobs of customers that have never paid."""
        return len(self._newcomers)

    def get(self, job_id: str) -> Job | None:
        """The job, or None when it does not wait."""
        waiting = self._jobs.get(job_id)
        return None if waiting is None else waiting.job

    def of_customer(self, customer: str) -> list[Job]:
        """This customer's, in the order in which they came."""
        known = self._customers.get(customer)
        return [] if known is None else [waiting.job for waiting in known.jobs.values()]

    def add(self, job: Job, *, newcomer: bool = False) -> None:
        """A job waits from now on, or still does. A `newcomer`'s customer has never paid."""
        waiting = self._jobs.setdefault(job.id, WaitingJob(job))
        self._customers.setdefault(job.request.customer, Customer()).jobs[job.id] = waiting
        if newcomer:
            self._newcomers.add(job)

    def remove(self, job_id: str) -> None:
        """A job waits no more. Unknown ones are ignored."""
        waiting = self._jobs.pop(job_id, None)
        if waiting is None:
            return
        self._newcomers.remove(job_id)
        self._line.remove(job_id)
        customer = waiting.job.request.customer
        del self._customers[customer].jobs[job_id]
        self._drop_if_done(customer)

    def late(self, now: float) -> list[Job]:
        """Those that have waited for as long as they may, and those that make room for others."""
        return [waiting.job for waiting in self._jobs.values() if waiting.is_late(now)]

    # --- invoices -----------------------------------------------------------------------------------------------

    def asks(self, customer: str) -> None:
        """An invoice is being made for this customer."""
        self._customers.setdefault(customer, Customer()).asked = True

    def asked(self, customer: str) -> None:
        """It is made, or none could be."""
        if (known := self._customers.get(customer)) is not None:
            known.asked = False
            self._drop_if_done(customer)

    def is_asked(self, customer: str) -> bool:
        """Whether an invoice is being made for this customer."""
        known = self._customers.get(customer)
        return known is not None and known.asked

    def invoiced(self, job: Job) -> None:
        """An invoice was made for this job: no job of its customer stands in line, and another relay has its turn."""
        self._line.served(job.id)
        for other in self.of_customer(job.request.customer):
            self._line.remove(other.id)

    def tell(self, job_id: str, issued: Issued) -> bool:
        """Whether a job's customer has yet to be told of this invoice, and that it is told now."""
        waiting = self._jobs.get(job_id)
        if waiting is None or (waiting.told is not None and waiting.told.payment_hash == issued.payment_hash):
            return False
        waiting.told = issued
        return True

    def told(self, job_id: str) -> Issued | None:
        """The invoice that a job's customer was told of last."""
        waiting = self._jobs.get(job_id)
        return None if waiting is None else waiting.told

    def left(self, customer: str) -> None:
        """A job has gone that may have been the one whose invoice is open: who waits behind it is decided on anew."""
        if (known := self._customers.get(customer)) is not None:
            known.left = True

    def had_left(self, customer: str) -> bool:
        """Whether one has since this was last asked."""
        known = self._customers.get(customer)
        if known is None or not known.left:
            return False
        known.left = False
        return True

    def misfits(self, customer: str, misfits: bool) -> None:
        """Whether this customer's open invoice is no waiting job's, and has to give way to another."""
        if (known := self._customers.get(customer)) is not None:
            known.misfit = misfits

    def is_misfit(self, customer: str) -> bool:
        """See `misfits`."""
        known = self._customers.get(customer)
        return known is not None and known.misfit

    def behind_invoices(self) -> list[str]:
        """Customers whose jobs should be waiting behind an open invoice."""
        in_line = {job.request.customer for job in self._line}
        return [
            customer for customer, known in self._customers.items() if not known.asked and customer not in in_line
        ]

    # --- those that have never paid -----------------------------------------------------------------------------

    def makes_room(self, now: float) -> bool:
        """Whether there is room for a job of a newcomer, if another has to go for it.

        The one that goes is late from now on, and hears so with the others. What it pays all the same is credit.
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
        """Whoever has paid once is no part of a flood of keys."""
        for job in self.of_customer(customer):
            self._newcomers.remove(job.id)

    def must_stand_in_line(self, job: Job) -> bool:
        """Whether others come before it: those that were told to come back later. One of these is decided on when it
        is its turn."""
        return job.id in self._newcomers and len(self._line) > 0 and job.id not in self._line

    def stand_in_line(self, job: Job) -> bool:
        """A job waits until an invoice may be made for it; False when it does already, or does not wait at all."""
        return job.id in self._jobs and self._line.add(job)

    @property
    def relays_in_line(self) -> int:
        """Over how many relays those came that stand in line: these take turns."""
        return self._line.relays

    def next_in_line(self) -> Job | None:
        """Whose turn it is; None while nobody stands in line, or the next one is being asked."""
        job = self._line.next()
        return None if job is None or self.is_asked(job.request.customer) else job

    def _drop_if_done(self, customer: str) -> None:
        # Whatever is remembered of it is about jobs that wait.
        known = self._customers[customer]
        if not known.jobs and not known.asked:
            del self._customers[customer]
