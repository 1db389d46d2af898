"""Holds in SQLite: admits jobs to their customers' accounts, and holds their quotes while they run.

Takes the caller's transaction, like `store`, which releases holds and turns them into charges.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pylon.errors import MoneyError
from pylon.money.accounts import account as decider
from pylon.money.accounts.account import Account, Basis, Decision, Run, Terms, Trial
from pylon.money.accounts.receipt import new_epoch
from pylon.money.accounts.store import ACCOUNT, LAST, check_different, read_account
from pylon.money.books.store import Reader
from pylon.money.limits import DAY_S
from pylon.money.msat import ZERO, Msat
from pylon.money.states import HoldState
from pylon.records import record
from pylon.store.database import Transaction

# What is read for every job: the customer's account, if there is one, and whether the job was admitted before. A
# customer without an account may have paid: its account is opened with that.
_JOB = """
    h.customer AS holder, h.basis, h.state, EXISTS (SELECT 1 FROM money_receipt WHERE job = :job) AS charged_before
"""
_ADMIT = f"""SELECT {ACCOUNT.replace("|| a.customer", "|| :customer")}, a.customer, {_JOB}
    FROM (SELECT 1) LEFT JOIN money_account a ON a.customer = :customer
    LEFT JOIN money_hold h ON h.job = :job {LAST}
"""  # noqa: S608 - constants
# Whether the job was admitted before, where the account is known.
_BEFORE = f"SELECT {_JOB} FROM (SELECT 1) LEFT JOIN money_hold h ON h.job = :job"  # noqa: S608 - constants


@record
class Admission:
    """A job that a customer asks for, with the arguments of `account.admit`; `now` is in Unix seconds."""

    customer: str
    job: str
    quote: Msat
    terms: Terms
    now: float
    wish: Msat | None = None
    trial: Trial | None = None


async def admit(tx: Transaction, asked: Sequence[Admission]) -> list[Decision]:
    """Decides on different jobs, in order, and holds the quotes of those that may run.

    A job that was admitted before gets the same answer again. Raises `MoneyError` for one that has ended.
    """
    check_different([ask.job for ask in asked])
    # Accounts after the decisions so far: nothing is written before the end.
    accounts: dict[str, Account] = {}
    opened: dict[str, tuple[str, float]] = {}
    tried: dict[str, tuple[float, int]] = {}
    holds: list[tuple[Any, ...]] = []
    decisions: list[Decision] = []
    for ask in asked:
        customer, now = ask.customer, ask.now
        account = accounts.get(customer)
        values = {"job": ask.job, "customer": customer}
        [row] = await tx.fetch_all(_ADMIT if account is None else _BEFORE, values)
        if row["holder"] == customer and row["state"] == HoldState.HELD:
            decisions.append(Run(Basis(row["basis"])))
            continue
        if row["holder"] is not None or row["charged_before"]:
            raise MoneyError("this job was admitted before and has ended")
        if account is None and row["customer"] is None:
            account = Account(new_epoch(), paid_total=Msat(row["paid"]))
            opened[customer] = account.epoch, now
        elif account is None:
            account = read_account(row)
        # What is left of the day's trials matters for strangers alone.
        tries = ask.trial is not None and ask.terms.trial and decider.may_try(account)
        left = await trial_left(tx, ask.trial, now, tried.values()) if ask.trial is not None and tries else ZERO
        decision = decider.admit(account, ask.terms, ask.quote, wish=ask.wish, trial=ask.trial, trial_left_today=left)
        if isinstance(decision, Run):
            account = decider.hold(account, ask.quote, decision.basis)
            holds.append((ask.job, customer, decision.basis.value, int(ask.quote), HoldState.HELD.value, now))
            if decision.basis is Basis.TRIAL:
                tried[customer] = now, int(ask.quote)
        accounts[customer] = account
        decisions.append(decision)
    await _write_accounts(tx, opened, tried)
    await tx.execute_many("INSERT INTO money_hold VALUES (?, ?, ?, ?, ?, ?)", holds)
    return decisions


async def is_held(reader: Reader, job: str) -> bool:
    """Whether something is held for a job, or it is metered."""
    held = await reader.fetch_one("SELECT 1 FROM money_hold WHERE job = ? AND state = 'held'", (job,))
    return held is not None


async def trial_left(reader: Reader, trial: Trial, now: float, unwritten: Iterable[tuple[float, int]] = ()) -> Msat:
    """What strangers may still get on credit today (UTC). `unwritten` are trials just granted: when, and how much."""
    if trial.per_day is None:
        return trial.per_job
    day = now - now % DAY_S
    [(given,)] = await reader.fetch_all(
        "SELECT coalesce(sum(tried_msat), 0) FROM money_account WHERE tried_at >= ? AND tried_at < ?",
        (day, day + DAY_S),
    )
    given += sum(msat for at, msat in unwritten if day <= at < day + DAY_S)
    return Msat(max(0, int(trial.per_day) - given))


async def _write_accounts(
    tx: Transaction, opened: Mapping[str, tuple[str, float]], tried: Mapping[str, tuple[float, int]]
) -> None:
    rows = [(customer, *new, *tried.get(customer, (None, None))) for customer, new in opened.items()]
    await tx.execute_many("INSERT INTO money_account VALUES (?, ?, ?, ?, ?)", rows)
    known = [(*trial, customer) for customer, trial in tried.items() if customer not in opened]
    if known:
        await tx.execute_many("UPDATE money_account SET tried_at = ?, tried_msat = ? WHERE customer = ?", known)
