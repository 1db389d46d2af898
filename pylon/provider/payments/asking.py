"""Asking for a payment: an invoice for a job, or why there is none, and what came in for those that are open.

All of it is with the wallet and in the database. What it means for the jobs that wait is the till's to say.
"""

from collections.abc import AsyncIterator
from enum import Enum, auto

from pylon import log
from pylon.clock import Clock
from pylon.money.accounts.account import WaitForTopUp
from pylon.money.invoices import store as invoice_store
from pylon.money.invoices.receiver import EXPIRY_S, Credited, ReceiveCode, ReceiveError, Receiver
from pylon.money.invoices.store import Issued
from pylon.money.msat import Msat
from pylon.money.states import InvoiceState
from pylon.money.wallet import Hint, Wallet, WalletError
from pylon.provider.payments.behind import Misfit, behind, give_up
from pylon.provider.queue import Job
from pylon.store.database import Database

logger = log.get("provider")

# Nobody is told of an invoice that is about to run out: wallets refuse those.
LEAST_LEFT_S = 45.0


class NotAsked(Enum):
    """Why no invoice was made for a job."""

    # Another job of its customer was a moment faster.
    ANOTHER = auto()
    # Too many keys that have never paid were asked lately.
    LATER = auto()
    # It had one, which was not paid in time.
    RAN_OUT = auto()
    # It had one, and what was paid is credit: its customer asks again with a new request.
    PAID = auto()
    # The wallet does not answer, or made one that cannot be used.
    WALLET = auto()


class Asking:
    """One wallet, and the invoices that it made for customers. A job has one invoice in its life."""

    def __init__(self, *, database: Database, wallet: Wallet, receiver: Receiver, clock: Clock) -> None:
        # Whether the wallet failed to answer last time: paid work is refused meanwhile, never done for free.
        self.down = False
        self._database = database
        self._wallet = wallet
        self._receiver = receiver
        self._clock = clock

    async def has_paid(self, customer: str) -> bool:
        """Whether this customer has ever paid here."""
        return await invoice_store.has_paid(self._database, customer)

    async def open_of(self, customer: str) -> Issued | None:
        """This customer's open invoice."""
        return await invoice_store.open_of(self._database, customer)

    async def behind(self, job: Job, waits: WaitForTopUp) -> Issued | Misfit | None:
        """The open invoice that this job waits for, while there is time to pay it."""
        payable_until = self._clock.wall() + LEAST_LEFT_S
        async with self._database.transaction() as tx:
            found = await behind(tx, job, waits, payable_until=payable_until)
        # It may be that of another job that waits, and about to run out all the same.
        return None if isinstance(found, Issued) and found.expires_at < payable_until else found

    async def issue(self, job: Job, amount: Msat) -> Issued | NotAsked:
        """An invoice for this job, on disk before anybody hears of it."""
        seconds = int(job.terms.expires_at - self._clock.wall())
        try:
            issued = await self._receiver.issue(
                job.request.customer,
                job.id,
                amount,
                description="work on a job",
                expiry_s=max(60, min(EXPIRY_S, seconds)),
            )
        except ReceiveError as error:
            return await self._why_not(job, error)
        self.down = False
        return issued

    async def _why_not(self, job: Job, error: ReceiveError) -> NotAsked:
        if error.code is ReceiveCode.TOPUP_OPEN:
            return NotAsked.ANOTHER
        if error.code is ReceiveCode.TOO_MANY:
            return NotAsked.LATER
        logger.warning("no invoice could be made", job=job.id, code=error.code.value, error=str(error))
        if error.code is ReceiveCode.JOB_HAD_INVOICE:
            had = await invoice_store.of_job(self._database, job.id)
            return NotAsked.RAN_OUT if had is not None and had.state is InvoiceState.EXPIRED else NotAsked.PAID
        self.down = True
        return NotAsked.WALLET

    def hints(self) -> AsyncIterator[Hint]:
        """What the wallet says of payments as they come: a reason to look sooner, and no more."""
        return self._wallet.events()

    async def look_up(self, payment_hash: str) -> Credited | None:
        """What was credited for this invoice now. Raises `WalletError` and `ReceiveError`."""
        return await self._receiver.look_up(payment_hash)

    async def check(self, *, at_start: bool = False) -> list[Credited] | None:
        """What was credited of all that may have been paid; None when the wallet does not answer."""
        was_down = self.down
        try:
            if was_down:
                # Where no invoice is due the receiver asks nobody, and hears nothing wrong.
                await self._wallet.info()
            credited = await self._receiver.check(at_start=at_start)
        except WalletError as error:
            logger.warning("the wallet does not answer; paid work is paused", error=str(error))
            self.down = True
            return None
        if was_down:
            self.down = False
        return credited

    async def give_up(self, issued: Issued) -> Credited | None:
        """Lets an invoice go that no job waits for, so that another can be made; what was credited for it instead.

        Raises `WalletError` and `ReceiveError`: then it stays.
        """
        credited = await self.look_up(issued.payment_hash)
        if credited is None:
            async with self._database.transaction() as tx:
                await give_up(tx, issued, self._clock.wall())
        return credited
