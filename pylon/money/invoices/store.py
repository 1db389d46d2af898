"""The invoices that we issued, in SQLite. Payment hash and job are unique, and a customer has one open at a time."""

from dataclasses import dataclass

from pylon.money.books import ledger
from pylon.money.books.store import Reader
from pylon.money.msat import Msat
from pylon.money.states import InvoiceState, check_step
from pylon.store.database import Row, Transaction


@dataclass(frozen=True, slots=True)
class Issued:
    """An invoice of ours. Times are Unix seconds."""

    payment_hash: str
    job: str
    customer: str
    amount: Msat
    invoice: str
    created_at: float
    expires_at: float
    state: InvoiceState


async def add(tx: Transaction, issued: Issued) -> None:
    """Writes a new invoice."""
    await tx.execute(
        "INSERT INTO money_invoice VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            issued.payment_hash,
            issued.job,
            issued.customer,
            int(issued.amount),
            issued.invoice,
            issued.created_at,
            issued.expires_at,
            issued.state.value,
            issued.created_at,
        ),
    )


async def move(tx: Transaction, issued: Issued, state: InvoiceState, now: float) -> None:
    """Marks an invoice as settled or given up. `issued` is as read in this transaction. Raises `IllegalStepError`."""
    check_step("an invoice", issued.state, state)
    await tx.execute(
        "UPDATE money_invoice SET state = ?, changed_at = ? WHERE payment_hash = ?",
        (state.value, now, issued.payment_hash),
    )


async def hand_over(tx: Transaction, payment_hash: str, job: str) -> None:
    """Gives an unpaid invoice to another job of its customer, since the job that asked for it is gone."""
    await tx.execute(
        "UPDATE money_invoice SET job = ? WHERE payment_hash = ? AND state = 'pending'", (job, payment_hash)
    )


async def get(reader: Reader, payment_hash: str) -> Issued | None:
    """The invoice with this payment hash, if there is one."""
    return _issued(await reader.fetch_one("SELECT * FROM money_invoice WHERE payment_hash = ?", (payment_hash,)))


async def of_job(reader: Reader, job: str) -> Issued | None:
    """The invoice of a job, if there is one."""
    return _issued(await reader.fetch_one("SELECT * FROM money_invoice WHERE job = ?", (job,)))


async def open_of(reader: Reader, customer: str) -> Issued | None:
    """The customer's unpaid invoice, if there is one."""
    return _issued(
        await reader.fetch_one("SELECT * FROM money_invoice WHERE customer = ? AND state = 'pending'", (customer,))
    )


async def to_check(reader: Reader, *, ended_since: float) -> list[Issued]:
    """Unpaid invoices, and given-up ones that expire after `ended_since` (Unix seconds), oldest first."""
    # The indexes are named because SQLite would otherwise go through all invoices in the order of their creation.
    rows = await reader.fetch_all(
        "SELECT * FROM money_invoice INDEXED BY money_invoice_open WHERE state = 'pending'"
        " UNION ALL SELECT * FROM money_invoice INDEXED BY money_invoice_given_up"
        " WHERE state = 'expired' AND expires_at >= ? ORDER BY created_at",
        (ended_since,),
    )
    return [issued for row in rows if (issued := _issued(row)) is not None]


async def has_paid(reader: Reader, customer: str) -> bool:
    """Whether this customer has ever paid an invoice of ours."""
    row = await reader.fetch_one(
        "SELECT 1 FROM money_sum WHERE account = ? AND kind = 'topup_received'", (ledger.customer(customer),)
    )
    return row is not None


async def count_given_up(reader: Reader, customer: str, *, since: float, until: float) -> int:
    """How many invoices of this customer were given up that expired, or will, between two times (Unix seconds)."""
    [(count,)] = await reader.fetch_all(
        "SELECT count(*) FROM money_invoice INDEXED BY money_invoice_given_up"
        " WHERE state = 'expired' AND expires_at >= ? AND expires_at < ? AND customer = ?",
        (since, until, customer),
    )
    return int(count)


async def count_to_strangers(reader: Reader, *, since: float, until: float) -> int:
    """How many invoices between two times (Unix seconds) went to customers that have never paid one."""
    [(count,)] = await reader.fetch_all(
        "SELECT count(*) FROM money_invoice WHERE created_at >= ? AND created_at < ? AND NOT EXISTS"
        " (SELECT 1 FROM money_sum WHERE account = ? || customer AND kind = 'topup_received')",
        (since, until, ledger.customer("")),
    )
    return int(count)


def _issued(row: Row | None) -> Issued | None:
    if row is None:
        return None
    return Issued(
        row["payment_hash"],
        row["job"],
        row["customer"],
        Msat(row["msat"]),
        row["invoice"],
        row["created_at"],
        row["expires_at"],
        InvoiceState(row["state"]),
    )
