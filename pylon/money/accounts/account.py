"""A provider's account for one customer: whether a job may run, and what it is charged.

A job that is admitted *holds* its quote, so that jobs that run at the same time can never together pass the credit.
When it is done the hold becomes a charge, never above the quote; when it fails the hold is released.

Pure functions: values in, decisions out. `store` and `holds` keep the values in SQLite.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from pylon.errors import MoneyError
from pylon.money.accounts.receipt import AccountReceipt, AccountSeen
from pylon.money.msat import ZERO, Msat
from pylon.records import record

# The most that a customer may leave with us beyond what its jobs need: we are answerable for other people's money.
MOST_DEPOSIT = Msat.from_sats(10_000)
TRIAL_JOB = Msat.from_sats(2)
TRIAL_DAY = Msat.from_sats(50)


class Basis(StrEnum):
    """What pays for a job."""

    PREPAID = "prepaid"  # the customer's own money covers it
    CREDIT = "credit"  # some of it is granted
    TRIAL = "trial"  # a stranger's one job on credit
    METERED = "metered"  # counted, not charged: a trusted key, or a price of nothing


@record
class Terms:
    """What a customer is granted. `credit` None means no limit and no charge, as for the owner's own machines."""

    credit: Msat | None = ZERO
    trial: bool = False
    most_deposit: Msat = MOST_DEPOSIT


TRUSTED = Terms(credit=None)


@dataclass(frozen=True, slots=True)
class Trial:
    """What strangers get on credit: the most for a job, and for all of them in a day; None means no limit."""

    per_job: Msat = TRIAL_JOB
    per_day: Msat | None = TRIAL_DAY


@record
class Account:
    """One customer's account. Totals run on for as long as the account lives; `seq` starts anew with an epoch."""

    epoch: str
    seq: int = 0
    charged_total: Msat = ZERO
    paid_total: Msat = ZERO
    held: Msat = ZERO
    topup_open: bool = False
    trial_used: bool = False

    @property
    def balance(self) -> int:
        """What the customer has left, in msat; negative if it owes."""
        return int(self.paid_total) - int(self.charged_total)


@record
class Run:
    """The job may run; its quote is held."""

    basis: Basis


@dataclass(frozen=True, slots=True)
class AskTopUp:
    """The job waits for a payment of this amount, in whole sats."""

    amount: Msat


@dataclass(frozen=True, slots=True)
class WaitForTopUp:
    """The job waits for a payment that was asked for before.

    `lacks` is what the job lacks, `wanted` what would be asked for if there were no other invoice; both in whole
    sats.
    """

    lacks: Msat
    wanted: Msat

    def fits(self, amount: Msat) -> bool:
        """Whether a payment of this amount is enough for the job, and no more than its customer offered."""
        return self.lacks <= amount <= self.wanted


@dataclass(frozen=True, slots=True)
class TooMuch:
    """The job would need a larger deposit than is taken from one customer."""


type Decision = Run | AskTopUp | WaitForTopUp | TooMuch


def admit(
    account: Account,
    terms: Terms,
    quote: Msat,
    *,
    wish: Msat | None = None,
    trial: Trial | None = None,
    trial_left_today: Msat = ZERO,
) -> Decision:
    """Decides whether a job of this quote may run now, or what has to be paid first.

    `wish` is what the customer offered to deposit (`topup`); without it a top-up is exactly what this job lacks.
    `trial_left_today` is what is left of the day's credit for all strangers.
    """
    if terms.credit is None or not quote:
        return Run(Basis.METERED)
    own = account.balance - int(account.held)
    if own >= quote:
        return Run(Basis.PREPAID)
    if own + int(terms.credit) >= quote:
        return Run(Basis.CREDIT)
    if terms.trial and trial is not None and may_try(account) and quote <= min(trial.per_job, trial_left_today):
        return Run(Basis.TRIAL)
    lacks = Msat(int(quote) - own - int(terms.credit))
    room = int(terms.most_deposit) - max(0, account.balance)
    wanted = Msat(max(int(lacks), min(int(wish or 0), room)))
    if account.topup_open:
        return WaitForTopUp(Msat.from_sats(lacks.sats_up()), Msat.from_sats(wanted.sats_up()))
    if lacks > terms.most_deposit:
        return TooMuch()
    return AskTopUp(Msat.from_sats(wanted.sats_up()))


def may_try(account: Account) -> bool:
    """Whether the customer is still a stranger: it never paid, was charged, or had a job admitted."""
    return not (account.trial_used or account.charged_total or account.paid_total or account.held)


def hold(account: Account, quote: Msat, basis: Basis) -> Account:
    """The account once a job is admitted."""
    if basis is Basis.METERED:
        return account
    return Account(
        account.epoch,
        account.seq,
        account.charged_total,
        account.paid_total,
        account.held + quote,
        account.topup_open,
        account.trial_used or basis is Basis.TRIAL,
    )


def release(account: Account, quote: Msat, basis: Basis, *, wasted: bool = False) -> Account:
    """The account once an admitted job has failed or was cancelled before it cost anything. See `may_retry` too."""
    if basis is Basis.METERED:
        return account
    retry = may_retry(basis, wasted=wasted)
    return replace(account, held=account.held - quote, trial_used=account.trial_used and not retry)


def may_retry(basis: Basis, *, wasted: bool) -> bool:
    """Whether a stranger gets another trial job after this one, which cost nothing.

    It does if the job failed through no fault of its own, or had not begun. A job that it took back while the model
    worked on it (`wasted`) was its trial: otherwise it could keep the model busy for nothing, with one key.
    """
    return basis is Basis.TRIAL and not wasted


def charge(account: Account, quote: Msat, basis: Basis, amount: Msat) -> tuple[Account, AccountReceipt]:
    """The account and the receipt once an admitted job is done. Raises `MoneyError` for a charge above the quote."""
    if basis is Basis.METERED:
        return _book(account, 0)
    if amount > quote:
        raise MoneyError(f"a charge of {amount} msat is above the quote of {quote} msat")
    return _book(account, int(amount), account.held - quote)


def credit(account: Account, amount: Msat) -> Account:
    """The account once a payment is in the wallet."""
    return replace(account, paid_total=account.paid_total + amount)


def _book(account: Account, charge_msat: int, held: Msat | None = None) -> tuple[Account, AccountReceipt]:
    after = Account(
        account.epoch,
        account.seq + 1,
        account.charged_total + charge_msat,
        account.paid_total,
        account.held if held is None else held,
        account.topup_open,
        account.trial_used,
    )
    return after, AccountReceipt(after.epoch, after.seq, charge_msat, after.charged_total, after.paid_total)


class Agreement(StrEnum):
    """How a customer's `account-seen` compares with our account."""

    NOTHING = "nothing"  # the customer sent none
    AGREES = "agrees"
    BEHIND = "behind"  # it has not seen our latest receipts
    OTHER_EPOCH = "other_epoch"  # it knows an earlier life of this account
    AHEAD = "ahead"  # it has seen receipts that we have not: our database was restored
    DIFFERS = "differs"  # same receipt, other total


def compare(account: Account, seen: AccountSeen | None, ours: AccountReceipt | None) -> Agreement:
    """Compares a customer's acknowledgement. `ours` is our receipt of the same epoch and seq, if there is one."""
    if seen is None:
        return Agreement.NOTHING
    if seen.epoch != account.epoch:
        return Agreement.OTHER_EPOCH
    if seen.seq > account.seq:
        return Agreement.AHEAD
    if seen.seq > 0 and (ours is None or ours.charged_total != seen.charged_total):
        return Agreement.DIFFERS
    return Agreement.AGREES if seen.seq == account.seq else Agreement.BEHIND
