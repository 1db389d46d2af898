"""The jobs that are in hand: those that wait for a payment, those that wait for the engine, and those that it has."""

import asyncio

from pylon import log
from pylon.errors import MalformedError
from pylon.jobs.cancel import parse_cancel
from pylon.money.accounts.account import Decision
from pylon.nostr.event import Event
from pylon.provider.payments.till import Till
from pylon.provider.queue import Job
from pylon.provider.rows import JobState
from pylon.provider.work.runner import Runner

logger = log.get("provider")


class InHand:
    """Till and runner as one. There is no till where work is free."""

    def __init__(self, *, till: Till | None, runner: Runner) -> None:
        self._till = till
        self._runner = runner

    @property
    def takes_payment(self) -> bool:
        """Whether a job may have to wait for a payment here."""
        return self._till is not None

    @property
    def unpaid(self) -> int:
        """Jobs that wait for a payment."""
        return 0 if self._till is None else self._till.waiting

    @property
    def paid(self) -> int:
        """Jobs that wait for the engine, or that it has."""
        return len(self._runner.queue) + len(self._runner.running)

    @property
    def wallet_down(self) -> bool:
        """Whether nobody can be asked for a payment."""
        return self._till is not None and self._till.down

    def unpaid_of(self, customer: str) -> int:
        """How many of this customer's jobs wait for its payment."""
        return 0 if self._till is None else self._till.of_customer(customer)

    def paid_of(self, customer: str) -> int:
        """How many of this customer's jobs wait for the engine, or are with it."""
        running = sum(1 for one in self._runner.running.values() if one.job.request.customer == customer)
        return self._runner.queue.of_customer(customer) + running

    def has(self, job_id: str) -> bool:
        """Whether this job is in hand."""
        if job_id in self._runner.running or self._runner.queue.get(job_id) is not None:
            return True
        return self._till is not None and self._till.has(job_id)

    def say_again(self, job_id: str) -> None:
        """Tells the customer of a job in hand once more how that stands."""
        if self._till is not None and self._till.has(job_id):
            self._till.say_again(job_id)
        else:
            self._runner.say_again(job_id)

    async def take(self, job: Job, decision: Decision) -> None:
        """Takes on a job that the journal has, and about which this was decided."""
        if self._till is None:
            self._runner.add(job)
        else:
            await self._till.handle(job, decision)

    async def restore(self, job: Job, state: JobState) -> None:
        """Takes up a job that was in this state when the last process ended."""
        if state is JobState.AWAITING_FUNDS and self._till is not None:
            await self._till.restore(job)
        else:
            self._runner.add(job)

    async def take_back(self, event: Event) -> list[tuple[str, str]]:
        """Lets the jobs go that this cancellation names, so far as they are its author's; which of those that it
        names are not in hand, each behind its author."""
        try:
            cancellation = parse_cancel(event)
        except MalformedError:
            return []
        customer, named = cancellation.customer, dict.fromkeys(cancellation.requests)
        here = {job_id for job_id in named if self.has(job_id)}
        # Together: their ends share a flush.
        await asyncio.gather(*(self._let_go(job_id, customer) for job_id in named if job_id in here))
        return [(customer, job_id) for job_id in named if job_id not in here]

    async def _let_go(self, job_id: str, customer: str) -> None:
        try:
            # The runner after the till: a job that is paid for at this moment is with it by then.
            if self._till is not None:
                await self._till.cancel(job_id, customer)
            await self._runner.cancel(job_id, customer)
        except Exception:
            logger.exception("a job could not be released", job=job_id)
