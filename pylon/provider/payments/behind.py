"""The invoice behind which a customer's jobs wait.

It is one job's. When that job is gone it becomes that of the next one that it fits, and where it fits none that waits
it is given up for another. All of this is in the database, so that a restart changes nothing of it.
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
    """The job that asked for the open invoice is gone, and for this one it is too small, too large or too old."""


async def behind(tx: Transaction, job: Job, waits: WaitForTopUp, *, payable_until: float) -> Issued | Misfit | None:
    """The open invoice that this job waits for; None when there is none any more.

    One that runs out before `payable_until` (Unix seconds) becomes nobody's.
    """
    issued = await invoice_store.open_of(tx, job.request.customer)
    if issued is None or issued.job == job.id or await _waits(tx, issued):
        return issued
    if not waits.fits(issued.amount) or issued.expires_at < payable_until:
        return Misfit()
    await invoice_store.hand_over(tx, issued.payment_hash, job.id)
    return issued


async def give_up(tx: Transaction, issued: Issued, now: float) -> None:
    """Makes room for another invoice, unless a job waits for this one, or it was paid meanwhile. Who pays it all the
    same has credit."""
    # It may have become another's.
    found = await invoice_store.get(tx, issued.payment_hash)
    if found is not None and found.state is InvoiceState.PENDING and not await _waits(tx, found):
        await invoice_store.move(tx, found, InvoiceState.EXPIRED, now)


async def _waits(tx: Transaction, issued: Issued) -> bool:
    return await rows.state(tx, issued.job) is JobState.AWAITING_FUNDS


def unpaid(job: Job, issued: Issued | None) -> str:
    """What a job waited for in vain, for its customer to read."""
    if issued is None:
        return "an earlier payment was due first, and this one could not be asked for in time"
    whose = "" if issued.job == job.id else f", first asked for request {issued.job[:16]},"
    return f"the payment of {int(issued.amount)} msat{whose} that this job waited for did not come in time"
