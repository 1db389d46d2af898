"""Accounts of customers in SQLite: loads the values that `account` decides on, and writes what was decided.

Every function takes the caller's transaction: the job's own row and its money change together or not at all.
"""

from pylon.errors import MoneyError
from pylon.money import account as decider
from pylon.money import ledger
from pylon.money.account import Account, Agreement, Basis, Decision, Run, Terms, Trial
from pylon.money.ledger_store import Reader, book
from pylon.money.limits import DAY_S
from pylon.money.msat import ZERO, Msat
from pylon.money.receipt import AccountReceipt, AccountSeen, new_epoch
from pylon.records import record
from pylon.store.database import Row, Transaction

# What an account's value is made of; `a` is its row. First what a receipt says of it.
_EPOCH = """
    a.epoch,
    coalesce((SELECT max(seq) FROM money_receipt WHERE customer = a.customer AND epoch = a.epoch), 0) AS seq
"""
_TOTALS = f"""{_EPOCH},
    coalesce((SELECT charged_total FROM money_receipt WHERE customer = a.customer ORDER BY id DESC LIMIT 1), 0)
        AS charged,
    (SELECT coalesce(sum(msat), 0) FROM money_ledger
        WHERE credit = 'customer:' || a.customer AND kind = 'topup_received') AS paid
"""  # noqa: S608 - a constant
_ACCOUNT = f"""{_TOTALS},
    (SELECT coalesce(sum(quote), 0) FROM money_hold
        WHERE customer = a.customer AND state = 'held' AND basis <> 'metered') AS held,
    EXISTS (SELECT 1 FROM money_invoice WHERE customer = a.customer AND state = 'pending') AS topup_open,
    EXISTS (SELECT 1 FROM money_hold
        WHERE customer = a.customer AND basis = 'trial' AND state <> 'released') AS tried
"""  # noqa: S608 - a constant


async def load(reader: Reader, customer: str) -> Account:
    """The account of a customer; a new one (its epoch empty) when there was none."""
    row = await reader.fetch_one(
        f"SELECT {_ACCOUNT} FROM money_account a WHERE a.customer = ?",  # noqa: S608 - a constant
        (customer,),
    )
    return Account(epoch="") if row is None else _account(row)


async def open_account(tx: Transaction, customer: str, now: float) -> None:
    """Makes sure that the customer has an account."""
    await tx.execute(
        "INSERT INTO money_account VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (customer, new_epoch(), now)
    )


async def admit(
    tx: Transaction,
    customer: str,
    job: str,
    quote: Msat,
    *,
    terms: Terms,
    now: float,
    wish: Msat | None = None,
    trial: Trial | None = None,
) -> Decision:
    """Decides on a job (see `account.admit`) and, when it may run, holds its quote.

    A job that was admitted before gets the same answer again. Raises `MoneyError` for one that has ended.
    """
    # One statement for what is asked of every job: the account, and whether the job was here before.
    query = (
        f"SELECT {_ACCOUNT}, h.customer AS holder, h.basis, h.state FROM money_account a"  # noqa: S608 - a constant
        " LEFT JOIN money_hold h ON h.job = ? WHERE a.customer = ?"
    )
    row = await tx.fetch_one(query, (job, customer))
    if row is None:
        await open_account(tx, customer, now)
        row = await tx.fetch_one(query, (job, customer))
    assert row is not None  # noqa: S101 - opened a line above
    if row["holder"] is not None:
        if row["holder"] != customer or row["state"] != "held":
            raise MoneyError("this job was admitted before and has ended")
        return Run(Basis(row["basis"]))
    account = _account(row)
    # What is left of the day's trials is asked for strangers alone.
    tries = trial is not None and terms.trial and decider.may_try(account)
    left = await trial_left(tx, trial, now) if trial is not None and tries else ZERO
    decision = decider.admit(account, terms, quote, wish=wish, trial=trial, trial_left_today=left)
    if isinstance(decision, Run):
        await tx.execute(
            "INSERT INTO money_hold VALUES (?, ?, ?, ?, 'held', ?)",
            (job, customer, decision.basis.value, int(quote), now),
        )
    return decision


async def trial_left(reader: Reader, trial: Trial, now: float) -> Msat:
    """What strangers may still have on credit this day (UTC)."""
    row = await reader.fetch_one(
        "SELECT coalesce(sum(quote), 0) FROM money_hold WHERE basis = 'trial' AND state <> 'released' AND at >= ?",
        (now - now % DAY_S,),
    )
    return Msat(max(0, int(trial.per_day) - (row[0] if row else 0)))


async def charge(tx: Transaction, job: str, amount: Msat, now: float) -> AccountReceipt:
    """The hold of a finished job becomes a charge. Charged before: the same receipt again. Raises `MoneyError`."""
    hold, account = await _hold(tx, job)
    if hold.state == "charged":
        return (await receipts(tx, job))[-1]
    if hold.state != "held":
        raise MoneyError(f"a job that was {hold.state} is not charged")
    _, receipt = decider.charge(account, hold.quote, hold.basis, amount)
    await _write(tx, hold, job, receipt, "charged", now)
    if receipt.charge_msat:
        await book(tx, [ledger.charged(now, hold.customer, job, Msat(receipt.charge_msat))])
    return receipt


async def release(tx: Transaction, job: str) -> None:
    """Lets go of what a job held: it failed, or was cancelled before it cost anything. Unknown jobs are ignored."""
    await tx.execute("UPDATE money_hold SET state = 'released' WHERE job = ? AND state = 'held'", (job,))


async def reverse(tx: Transaction, job: str, now: float) -> list[AccountReceipt]:
    """Takes a charge back; all receipts of the job, for its `error` feedback. A job not charged is released."""
    hold, account = await _hold(tx, job)
    if hold.state == "held":
        await release(tx, job)
    if hold.state == "charged":
        amount = Msat((await receipts(tx, job))[-1].charge_msat)
        _, receipt = decider.reverse(account, amount)
        await _write(tx, hold, job, receipt, "reversed", now)
        if amount:
            await book(tx, [ledger.charge_reversed(now, hold.customer, job, amount)])
    return await receipts(tx, job)


async def receipts(reader: Reader, job: str) -> list[AccountReceipt]:
    """What was signed about a job, in order."""
    rows = await reader.fetch_all("SELECT * FROM money_receipt WHERE job = ? ORDER BY id", (job,))
    return [_receipt(row) for row in rows]


async def acknowledge(tx: Transaction, customer: str, seen: AccountSeen | None, now: float) -> Agreement:
    """Compares a customer's `account-seen`; one that is ahead of us starts a new epoch: our database was restored."""
    if seen is None:
        return Agreement.NOTHING
    row = await tx.fetch_one(
        f"SELECT {_EPOCH}, r.charge, r.charged_total, r.paid_total FROM money_account a"  # noqa: S608 - a constant
        " LEFT JOIN money_receipt r ON r.customer = a.customer AND r.epoch = ? AND r.seq = ? WHERE a.customer = ?",
        (seen.epoch, seen.seq, customer),
    )
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
    state: str


async def _hold(tx: Transaction, job: str) -> tuple[_Hold, Account]:
    row = await tx.fetch_one(
        f"SELECT {_TOTALS}, h.customer AS holder, h.basis, h.quote, h.state FROM money_hold h"  # noqa: S608
        " JOIN money_account a ON a.customer = h.customer WHERE h.job = ?",
        (job,),
    )
    if row is None:
        raise MoneyError("this job was never admitted to an account")
    quote = Msat(row["quote"])
    # Of what is held, this job's part: nothing else of it changes, and a customer may have hundreds out.
    account = Account(row["epoch"], row["seq"], Msat(row["charged"]), Msat(row["paid"]), held=quote)
    return _Hold(row["holder"], Basis(row["basis"]), quote, row["state"]), account


async def _write(tx: Transaction, hold: _Hold, job: str, receipt: AccountReceipt, state: str, now: float) -> None:
    await tx.execute(
        "INSERT INTO money_receipt (customer, epoch, seq, job, charge, charged_total, paid_total, at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            hold.customer,
            receipt.epoch,
            receipt.seq,
            job,
            receipt.charge_msat,
            int(receipt.charged_total),
            int(receipt.paid_total),
            now,
        ),
    )
    await tx.execute("UPDATE money_hold SET state = ? WHERE job = ?", (state, job))


def _receipt(row: Row) -> AccountReceipt:
    return AccountReceipt(
        row["epoch"], row["seq"], row["charge"], Msat(row["charged_total"]), Msat(row["paid_total"])
    )


def _account(row: Row) -> Account:
    return Account(
        epoch=row["epoch"],
        seq=row["seq"],
        charged_total=Msat(row["charged"]),
        paid_total=Msat(row["paid"]),
        held=Msat(row["held"]),
        topup_open=bool(row["topup_open"]),
        trial_used=bool(row["tried"]),
    )
