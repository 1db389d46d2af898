"""Makes invoices for jobs, and learns from the wallet which open ones were paid.

It only talks to the wallet and the database. The payment gate decides what that means for the jobs that wait.
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
from pylon.provider.payments.open_invoice import Misfit, give_up, invoice_for
from pylon.provider.queue import Job
from pylon.store.database import Database

logger = log.get("provider")

# Customers are only told of invoices with at least so many seconds left: wallets refuse to pay others.
LEAST_LEFT_S = 45.0


class NotIssued(Enum):
    """Why no invoice could be made for a job."""

    # The customer has an open invoice already, for another job.
    ANOTHER = auto()
    # Too many customers that have never paid got an invoice lately, or the wallet has too much to do.
    LATER = auto()
    # Too many invoices of this customer were not paid lately.
    UNPAID = auto()
    # The job had an invoice, which was not paid in time.
    RAN_OUT = auto()
    # The job had an invoice, and what was paid for it is credit: the customer must send a new request.
    PAID = auto()
    # The wallet does not answer, or made an invoice that cannot be used.
    WALLET = auto()


class InvoiceIssuer:
    """A wallet, and the invoices that it made for customers. A job has at most one invoice of its own."""

    def __init__(self, *, database: Database, wallet: Wallet, receiver: Receiver, clock: Clock) -> None:
        # The wallet did not answer last time. Until it does, paid jobs are refused, and never done for free.
        self.down = False
        self._database = database
        self._wallet = wallet
        self._receiver = receiver
        self._clock = clock

    async def has_paid(self, customer: str) -> bool:
        """Whether this customer has ever paid here."""
        return await invoice_store.has_paid(self._database, customer)

    async def open_of(self, customer: str) -> Issued | None:
        """This customer's open invoice; None if there is none."""
        return await invoice_store.open_of(self._database, customer)

    async def invoice_for(self, job: Job, waits: WaitForTopUp) -> Issued | Misfit | None:
        """The open invoice that this job waits for; None if there is none, or too little time to pay it."""
        payable_until = self._clock.wall() + LEAST_LEFT_S
        async with self._database.transaction_here() as tx:
            found = await invoice_for(tx, job, waits, payable_until=payable_until)
        # An invoice of another waiting job is no misfit, even if it is about to expire.
        return None if isinstance(found, Issued) and found.expires_at < payable_until else found

    async def issue(self, job: Job, amount: Msat) -> Issued | NotIssued:
        """Makes an invoice for this job. It is on disk before anybody hears of it."""
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

    async def _why_not(self, job: Job, error: ReceiveError) -> NotIssued:
        if error.code is ReceiveCode.TOPUP_OPEN:
            return NotIssued.ANOTHER
        if error.code in (ReceiveCode.TOO_MANY, ReceiveCode.WALLET_BUSY):
            return NotIssued.LATER
        if error.code is ReceiveCode.TOO_MANY_UNPAID:
            return NotIssued.UNPAID
        logger.warning("no invoice could be made", job=job.id, code=error.code.value, error=str(error))
        if error.code is ReceiveCode.JOB_HAD_INVOICE:
            had = await invoice_store.of_job(self._database, job.id)
            return NotIssued.RAN_OUT if had is not None and had.state is InvoiceState.EXPIRED else NotIssued.PAID
        self.down = True
        return NotIssued.WALLET

    def hints(self) -> AsyncIterator[Hint]:
        """The wallet's notifications of payments. They are no proof, only a reason to look the payment up."""
        return self._wallet.events()

    async def look_up(self, payment_hash: str) -> Credited | None:
        """Looks an invoice up; what is credited for it now, or None. Raises `WalletError` and `ReceiveError`."""
        return await self._receiver.look_up(payment_hash)

    async def check(self, *, at_start: bool = False) -> list[Credited] | None:
        """Looks up all invoices that are due; what is credited now. None if the wallet does not answer."""
        was_down = self.down
        try:
            if was_down:
                # If no invoice is due, the receiver does not ask the wallet, and would not notice that it is down.
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
        """Gives up an invoice that no job waits for, so that another can be made.

        If it turns out to be paid, returns what is credited instead. Raises `WalletError` and `ReceiveError`, and
        then keeps it.
        """
        credited = await self.look_up(issued.payment_hash)
        if credited is None:
            async with self._database.transaction_here() as tx:
                await give_up(tx, issued, self._clock.wall())
        return credited
