"""Collecting payments: learns what was paid, and has those jobs decided on anew for which something has changed.

What was paid is looked up when the wallet gives a hint, and every few seconds while anything is waited for.
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
from pylon.provider.payments.asking import Asking
from pylon.provider.payments.waiting import Waiting
from pylon.provider.queue import Job
from pylon.tasks import Tasks

logger = log.get("provider")

# While somebody waits, and while nobody does.
CHECK_S, IDLE_CHECK_S = 2.0, 30.0
TICK_S = 0.5
# An invoice is kept so long before another takes its place: a wallet keeps each for ever.
KEEP_INVOICE_S = 10.0

# Decides anew on all jobs of a customer that wait, first of all on the one of this id.
type Decide = Callable[[str, str], Awaitable[None]]


class Collecting:
    """`time_out` lets a job go that has waited for as long as it may."""

    def __init__(
        self,
        *,
        waiting: Waiting,
        asking: Asking,
        clock: Clock,
        decide: Decide,
        time_out: Callable[[Job], Awaitable[None]],
    ) -> None:
        self._waiting = waiting
        self._asking = asking
        self._clock = clock
        self._decide = decide
        self._time_out = time_out
        # Set when the first job waits, or the wallet is down: until then there is next to nothing to look at.
        self._woken = asyncio.Event()
        self._tasks = Tasks()
        # When the wallet was last asked (monotonic).
        self._checked = 0.0

    async def start(self) -> None:
        """Looks up what was paid while nobody was here, then listens."""
        await self.check(at_start=True)
        self._checked = self._clock.monotonic()
        self._tasks.start(forever(self._listen, "till hints"), "till hints")
        self._tasks.start(forever(self.watch, "till"), "till")

    async def close(self) -> None:
        """Stops."""
        await self._tasks.close()

    def wake(self) -> None:
        """Something is waited for."""
        self._woken.set()

    async def _listen(self) -> None:
        async for hint in self._asking.hints():
            try:
                credited = await self._asking.look_up(hint.payment_hash)
            except (WalletError, ReceiveError) as error:
                logger.warning("a payment could not be looked up", payment=hint.payment_hash, error=str(error))
                continue
            if credited is not None:
                await self.credited(credited)

    async def watch(self) -> None:
        """Waits until it is time for a look, and looks."""
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
        return len(self._waiting) > 0 or self._asking.down

    async def check(self, *, at_start: bool = False) -> None:
        """Asks the wallet, and looks at everybody who waits."""
        credited = await self._asking.check(at_start=at_start)
        if credited is None:
            return
        for item in credited:
            await self.credited(item)
        if (job := self._waiting.next_in_line()) is not None:
            await self._decide(job.request.customer, job.id)
        for customer in self._waiting.behind_invoices():
            issued = await self._asking.open_of(customer)
            if issued is None:
                # It ran out unpaid: the next job in line asks anew.
                await self._decide(customer, "")
                continue
            if self._waiting.had_left(customer):
                await self._decide(customer, "")
            if self._waiting.is_misfit(customer) and self._clock.wall() >= issued.created_at + KEEP_INVOICE_S:
                await self._replace(issued)

    async def credited(self, credited: Credited) -> None:
        """A payment is in the wallet, and on its customer's account."""
        logger.info("paid", customer=credited.customer, msat=int(credited.amount), late=credited.late)
        self._waiting.has_paid(credited.customer)
        # Whoever asked for what was paid comes first: it gets no second invoice.
        await self._decide(credited.customer, credited.job)

    async def _replace(self, issued: Issued) -> None:
        """Lets another invoice take the place of one that no job of its customer waits for."""
        try:
            credited = await self._asking.give_up(issued)
        except (WalletError, ReceiveError) as error:
            logger.warning("an invoice could not be looked up", payment=issued.payment_hash, error=str(error))
            return
        self._waiting.misfits(issued.customer, False)
        if credited is None:
            await self._decide(issued.customer, "")
        else:
            await self.credited(credited)
