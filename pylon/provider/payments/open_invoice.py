"""The open invoice that a customer's jobs wait for.

It belongs to one job. When that job is gone, the invoice goes to the next waiting job that it fits; if it fits none,
it is given up for another one. All of this is in the database, and survives a restart.
"""

from dataclasses import dataclass

from pylon.money.accounts.account import WaitForTopUp
from pylon.money.invoices import store as invoice_store
from pylon.money.invoices.store import Issued
from pylon.money.states import InvoiceState
from pylon.provider import rows
from pylon.provider.queue import Job
from pylon.provider.rows import JobState
from pylon.store.database import Transaction


@dataclass(frozen=True, slots=True)
class Misfit:
    """The job that the open invoice was made for is gone, and for this job it is too small, too large or too old."""


async def invoice_for(
    tx: Transaction, job: Job, waits: WaitForTopUp, *, payable_until: float
) -> Issued | Misfit | None:
    """The customer's open invoice, which this job waits for; None if there is none any more.

    If the invoice's own job is gone, it is handed over to this one. It is a `Misfit` if it does not fit, or expires
    before `payable_until` (Unix seconds).
    """
    issued = await invoice_store.open_of(tx, job.request.customer)
    if issued is None or issued.job == job.id or await _waits(tx, issued):
        return issued
    if not waits.fits(issued.amount) or issued.expires_at < payable_until:
        return Misfit()
    await invoice_store.hand_over(tx, issued.payment_hash, job.id)
    return issued


async def give_up(tx: Transaction, issued: Issued, now: float) -> None:
    """Marks an invoice as expired, so that another can be made, unless a job waits for it or it was paid meanwhile.

    If it is paid later, that becomes credit. `now` is in Unix seconds.
    """
    # Read again: it may have been handed over to another job.
    found = await invoice_store.get(tx, issued.payment_hash)
    if found is not None and found.state is InvoiceState.PENDING and not await _waits(tx, found):
        await invoice_store.move(tx, found, InvoiceState.EXPIRED, now)


async def _waits(tx: Transaction, issued: Issued) -> bool:
    return await rows.state(tx, issued.job) is JobState.AWAITING_FUNDS


def unpaid(job: Job, issued: Issued | None) -> str:
    """Tells a customer which payment its job waited for in vain."""
    if issued is None:
        return "an earlier payment was due first, and this one could not be asked for in time"
    whose = "" if issued.job == job.id else f", first asked for request {issued.job[:16]},"
    return f"the payment of {int(issued.amount)} msat{whose} that this job waited for did not come in time"
