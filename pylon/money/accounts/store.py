"""Accounts of customers in SQLite: loads the values that `account` decides on, and writes what it decides.

Every function takes the caller's transaction: a job's own row and its money change together or not at all.
"""

from collections.abc import Iterable, Sequence

from pylon.errors import MoneyError
from pylon.money.accounts import account as decider
from pylon.money.accounts.account import Account, Agreement, Basis
from pylon.money.accounts.receipt import AccountReceipt, AccountSeen, new_epoch
from pylon.money.books import ledger
from pylon.money.books.store import Reader, book
from pylon.money.msat import Msat
from pylon.money.states import HoldState, check_step
from pylon.records import record
from pylon.store.database import Row, Transaction

# The columns of an `Account`; `a` is its row, `r` its last receipt of this epoch.
LAST = """LEFT JOIN money_receipt r ON r.id =
    (SELECT id FROM money_receipt WHERE customer = a.customer AND epoch = a.epoch ORDER BY seq DESC LIMIT 1)
"""
# Totals run on from one epoch to the next.
_TOTALS = """
    a.epoch,
    coalesce(r.seq, 0) AS seq,
    coalesce(
        r.charged_total,
        (SELECT debit FROM money_sum WHERE account = 'customer:' || a.customer AND kind = 'charged'),
        0
    ) AS charged,
    coalesce(
        (SELECT credit FROM money_sum WHERE account = 'customer:' || a.customer AND kind = 'topup_received'),
        0
    ) AS paid
"""
ACCOUNT = f"""{_TOTALS},
    (SELECT coalesce(sum(quote), 0) FROM money_hold
        WHERE customer = a.customer AND state = 'held' AND basis <> 'metered') AS held,
    EXISTS (SELECT 1 FROM money_invoice WHERE customer = a.customer AND state = 'pending') AS topup_open,
    a.tried_at IS NOT NULL AS tried
"""  # noqa: S608 - a constant
_HOLD = f"""SELECT {_TOTALS}, h.customer AS holder, h.basis, h.quote, h.state FROM money_hold h
    JOIN money_account a ON a.customer = h.customer {LAST} WHERE h.job = ?
"""  # noqa: S608 - constants
_SEEN = """SELECT a.epoch,
    coalesce((SELECT max(seq) FROM money_receipt WHERE customer = a.customer AND epoch = a.epoch), 0) AS seq,
    r.charge, r.charged_total, r.paid_total FROM money_account a
    LEFT JOIN money_receipt r ON r.customer = a.customer AND r.epoch = ? AND r.seq = ? WHERE a.customer = ?
"""


@record
class Done:
    """A job that has been done, what it is to cost, and when it was done (Unix seconds)."""

    job: str
    amount: Msat
    now: float


async def charge(tx: Transaction, done: Sequence[Done]) -> list[AccountReceipt]:
    """Turns the holds of different jobs into charges, in order, and returns their receipts.

    A job that was charged before gets the same receipt again. Raises `MoneyError` for a job that was never admitted
    or whose hold was released, for a charge above the quote, and for a job that is named twice.
    """
    check_different([each.job for each in done])
    accounts: dict[str, Account] = {}
    signed: list[AccountReceipt] = []
    # New receipts, with their customers and jobs.
    made: list[tuple[str, Done, AccountReceipt]] = []
    for each in done:
        hold = await _hold(tx, each.job)
        if hold is None:
            signed.append(await _charged_before(tx, each.job))
            continue
        check_step("a job's hold", hold.state, HoldState.CHARGED)
        # Only this job's hold is counted: no other one changes, and a customer may have hundreds.
        account = decider.hold(accounts.get(hold.customer, hold.account), hold.quote, hold.basis)
        accounts[hold.customer], receipt = decider.charge(account, hold.quote, hold.basis, each.amount)
        signed.append(receipt)
        made.append((hold.customer, each, receipt))
    await tx.execute_many("DELETE FROM money_hold WHERE job = ?", [(each.job,) for _, each, _ in made])
    await _write(tx, [(customer, each.job, receipt, each.now) for customer, each, receipt in made])
    await book(
        tx,
        [
            ledger.charged(each.now, customer, each.job, Msat(receipt.charge_msat))
            for customer, each, receipt in made
            if receipt.charge_msat
        ],
    )
    return signed


async def release(tx: Transaction, job: str, *, wasted: bool = False) -> None:
    """Releases the hold of a job that failed or was cancelled before it cost anything. Unknown jobs are ignored.

    See `account.may_retry` for `wasted`.
    """
    released = await tx.fetch_one(
        "UPDATE money_hold SET state = ? WHERE job = ? AND state = ? RETURNING customer, basis",
        (HoldState.RELEASED.value, job, HoldState.HELD.value),
    )
    if released is not None and decider.may_retry(Basis(released["basis"]), wasted=wasted):
        await tx.execute(
            "UPDATE money_account SET tried_at = NULL, tried_msat = NULL WHERE customer = ?", (released["customer"],)
        )


async def forget(tx: Transaction, *, before: float) -> None:
    """Drops released holds from before `before` (Unix seconds): those jobs could be admitted again from now on."""
    await tx.execute("DELETE FROM money_hold WHERE state = 'released' AND at < ?", (before,))


async def receipts(reader: Reader, job: str) -> list[AccountReceipt]:
    """The receipts that were signed for a job, in order."""
    rows = await reader.fetch_all("SELECT * FROM money_receipt WHERE job = ? ORDER BY id", (job,))
    return [_receipt(row) for row in rows]


async def acknowledge(tx: Transaction, customer: str, seen: AccountSeen | None, now: float) -> Agreement:
    """Compares a customer's `account-seen` with its account.

    A customer that is ahead of us has receipts that we do not know: our database was restored, and its account starts
    a new epoch.
    """
    if seen is None:
        return Agreement.NOTHING
    row = await tx.fetch_one(_SEEN, (seen.epoch, seen.seq, customer))
    account, ours = Account(epoch=""), None
    if row is not None:
        account = Account(row["epoch"], row["seq"])
    if row is not None and row["charge"] is not None:
        totals = Msat(row["charged_total"]), Msat(row["paid_total"])
        ours = AccountReceipt(seen.epoch, seen.seq, row["charge"], *totals)
    agreement = decider.compare(account, seen, ours)
    if agreement is Agreement.AHEAD:
        await tx.execute(
            "UPDATE money_account SET epoch = ?, opened_at = ? WHERE customer = ?", (new_epoch(), now, customer)
        )
    return agreement


@record
class _Hold:
    customer: str
    basis: Basis
    quote: Msat
    state: HoldState
    account: Account


async def _hold(tx: Transaction, job: str) -> _Hold | None:
    row = await tx.fetch_one(_HOLD, (job,))
    if row is None:
        return None
    return _Hold(row["holder"], Basis(row["basis"]), Msat(row["quote"]), HoldState(row["state"]), _charged(row))


async def _charged_before(tx: Transaction, job: str) -> AccountReceipt:
    before = await receipts(tx, job)
    if not before:
        raise MoneyError("this job was never admitted to an account")
    return before[0]


def check_different(jobs: Sequence[str]) -> None:
    """Raises `MoneyError` when a job is named twice: its second answer would not see what the first decided."""
    if len(set(jobs)) < len(jobs):
        raise MoneyError("a job is named twice, and has one answer")


async def _write(tx: Transaction, signed: Iterable[tuple[str, str, AccountReceipt, float]]) -> None:
    await tx.execute_many(
        "INSERT INTO money_receipt (customer, epoch, seq, job, charge, charged_total, paid_total, at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                customer,
                receipt.epoch,
                receipt.seq,
                job,
                receipt.charge_msat,
                int(receipt.charged_total),
                int(receipt.paid_total),
                now,
            )
            for customer, job, receipt, now in signed
        ],
    )


def _charged(row: Row) -> Account:
    return Account(row["epoch"], row["seq"], Msat(row["charged"]), Msat(row["paid"]))


def _receipt(row: Row) -> AccountReceipt:
    return AccountReceipt(
        row["epoch"], row["seq"], row["charge"], Msat(row["charged_total"]), Msat(row["paid_total"])
    )


def read_account(row: Row) -> Account:
    """The account in a row with the columns `ACCOUNT`."""
    return Account(
        epoch=row["epoch"],
        seq=row["seq"],
        charged_total=Msat(row["charged"]),
        paid_total=Msat(row["paid"]),
        held=Msat(row["held"]),
        topup_open=bool(row["topup_open"]),
        trial_used=bool(row["tried"]),
    )
