"""Learns which invoices were paid, and has waiting jobs decided on again when something changed for them.

Invoices are looked up when the wallet gives a hint, and every few seconds while jobs wait.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from pylon import log
from pylon.clock import Clock
from pylon.forever import forever
from pylon.money.invoices.receiver import Credited, ReceiveError
from pylon.money.invoices.store import Issued
from pylon.money.wallet import WalletError
from pylon.provider.payments.invoice_issuer import InvoiceIssuer
from pylon.provider.payments.waiting import Waiting
from pylon.provider.queue import Job
from pylon.tasks import Tasks

logger = log.get("provider")

# How often the wallet is asked while jobs wait or it is down, and otherwise.
CHECK_S, IDLE_CHECK_S = 2.0, 30.0
# How often waiting jobs are looked at for those that have waited too long.
TICK_S = 0.5
# The least age at which an invoice is replaced by another: wallets keep each invoice for ever.
KEEP_INVOICE_S = 10.0

# Decides again on all waiting jobs of a customer, and first on the one of this id.
type Decide = Callable[[str, str], Awaitable[None]]


class PaymentWatch:
    """`time_out` ends a job that has waited for as long as it may."""

    def __init__(
        self,
        *,
        waiting: Waiting,
        issuer: InvoiceIssuer,
        clock: Clock,
        decide: Decide,
        time_out: Callable[[Job], Awaitable[None]],
    ) -> None:
        self._waiting = waiting
        self._issuer = issuer
        self._clock = clock
        self._decide = decide
        self._time_out = time_out
        # Set when a job waits or the wallet is down. Until then a rare look is enough.
        self._woken = asyncio.Event()
        self._tasks = Tasks()
        # When the wallet was last asked (monotonic).
        self._checked = 0.0

    async def start(self) -> None:
        """Looks up what was paid before this process began, then listens."""
        await self.check(at_start=True)
        self._checked = self._clock.monotonic()
        self._tasks.start(forever(self._listen, "payment hints"), "payment hints")
        self._tasks.start(forever(self.watch, "payments"), "payments")

    async def close(self) -> None:
        """Stops looking."""
        await self._tasks.close()

    def wake(self) -> None:
        """Looks often again: a job waits, or the wallet is down."""
        self._woken.set()

    async def _listen(self) -> None:
        async for hint in self._issuer.hints():
            try:
                credited = await self._issuer.look_up(hint.payment_hash)
            except (WalletError, ReceiveError) as error:
                logger.warning("a payment could not be looked up", payment=hint.payment_hash, error=str(error))
                continue
            if credited is not None:
                await self.credited(credited)

    async def watch(self) -> None:
        """Waits until something may be due, ends jobs that waited too long, and asks the wallet if it is time."""
        if self._is_waited_for:
            await asyncio.sleep(TICK_S)
        else:
            self._woken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._checked + IDLE_CHECK_S - self._clock.monotonic())):
                    await self._woken.wait()
        for job in self._waiting.late(self._clock.wall()):
            await self._time_out(job)
        due = CHECK_S if self._is_waited_for else IDLE_CHECK_S
        if self._clock.monotonic() - self._checked >= due:
            await self.check()
            self._checked = self._clock.monotonic()

    @property
    def _is_waited_for(self) -> bool:
        return len(self._waiting) > 0 or self._issuer.down

    async def check(self, *, at_start: bool = False) -> None:
        """Asks the wallet what was paid, and decides again on the jobs for which that changes something."""
        credited = await self._issuer.check(at_start=at_start)
        if credited is None:
            return
        for item in credited:
            await self.credited(item)
        if (job := self._waiting.next_in_line()) is not None:
            await self._decide(job.request.customer, job.id)
        for customer in self._waiting.behind_invoices():
            issued = await self._issuer.open_of(customer)
            if issued is None:
                # It expired unpaid, and another one can be made.
                await self._decide(customer, "")
                continue
            if self._waiting.had_left(customer):
                await self._decide(customer, "")
            if self._waiting.is_misfit(customer) and self._clock.wall() >= issued.created_at + KEEP_INVOICE_S:
                await self._replace(issued)

    async def credited(self, credited: Credited) -> None:
        """Handles a payment that was credited to its customer's account."""
        logger.info("paid", customer=credited.customer, msat=int(credited.amount), late=credited.late)
        self._waiting.has_paid(credited.customer)
        # The job whose invoice was paid comes first: it can get no second one if others use up the money.
        await self._decide(credited.customer, credited.job)

    async def _replace(self, issued: Issued) -> None:
        """Gives up an invoice that no job waits for, so that another can be made."""
        try:
            credited = await self._issuer.give_up(issued)
        except (WalletError, ReceiveError) as error:
            logger.warning("an invoice could not be looked up", payment=issued.payment_hash, error=str(error))
            return
        self._waiting.misfits(issued.customer, False)
        if credited is None:
            await self._decide(issued.customer, "")
        else:
            await self.credited(credited)
