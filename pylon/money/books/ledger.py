"""The double-entry ledger as values: every amount leaves one account and reaches another.

Both roles of a node, provider and customer, keep their accounts here; `store` has the entries in SQLite:

| account | kind | what its balance says |
|---|---|---|
| `wallet` | asset | what came in by top-ups less what went out; not the wallet's whole balance |
| `customer:<key>` | liability | what this customer has left with us; below zero: what it owes |
| `provider:<key>` | asset | what we have left with this provider; below zero: what we owe |
| `paid_by_hand:<payee>` | expense | what the owner had paid to this Lightning node, for whatever it was |
| `earned` | income | charges for work done here |
| `found` | income | credit that a provider gave us without a payment of ours |
| `spent` | expense | charges for work done for us |
| `fees` | expense | what our payments cost on the way |

Amounts are msat. Entries are never changed or deleted; a mistake is undone by an entry the other way round.
"""

from collections.abc import Iterable
from enum import StrEnum

from pylon.money.msat import Msat
from pylon.records import record

WALLET = "wallet"
EARNED = "earned"
FOUND = "found"
SPENT = "spent"
FEES = "fees"


class Kind(StrEnum):
    """What an entry is about. Kind and reference together are unique: nothing is booked twice."""

    TOPUP_RECEIVED = "topup_received"  # reference: payment hash
    CHARGED = "charged"  # reference: job
    TOPUP_PAID = "topup_paid"  # reference: payment hash
    PAID_BY_HAND = "paid_by_hand"  # reference: payment hash
    FEE_PAID = "fee_paid"  # reference: payment hash
    WORK_RECEIVED = "work_received"  # reference: provider/epoch/seq
    WORK_RETURNED = "work_returned"  # reference: provider/epoch/seq
    CREDIT_FOUND = "credit_found"  # reference: provider/epoch/seq


# The entries of a payment of ours.
OF_PAYMENTS = (Kind.TOPUP_PAID, Kind.PAID_BY_HAND, Kind.FEE_PAID)


@record
class Entry:
    """One booking: `amount` is debited to one account and credited to another. `at` is in Unix seconds."""

    at: float
    kind: Kind
    reference: str
    debit: str
    credit: str
    amount: Msat


def customer(key: str) -> str:
    """The name of a customer's account."""
    return f"customer:{key}"


def provider(key: str) -> str:
    """The name of a provider's account."""
    return f"provider:{key}"


def by_hand(payee: str) -> str:
    """The name of the account for invoices of a Lightning node that the owner had paid, which nobody works off."""
    return f"paid_by_hand:{payee}"


def is_debit_account(account: str) -> bool:
    """Whether debits raise this account's balance: assets and expenses."""
    return account in (WALLET, SPENT, FEES) or account.startswith(("provider:", "paid_by_hand:"))


def topup_received(at: float, key: str, payment_hash: str, amount: Msat) -> Entry:
    """The entry for a customer's invoice that was paid."""
    return Entry(at, Kind.TOPUP_RECEIVED, payment_hash, WALLET, customer(key), amount)


def charged(at: float, key: str, job: str, amount: Msat) -> Entry:
    """The entry for a customer's charge."""
    return Entry(at, Kind.CHARGED, job, customer(key), EARNED, amount)


def topup_paid(at: float, key: str, payment_hash: str, amount: Msat, fee: Msat) -> list[Entry]:
    """The entries for a provider's invoice that we paid, and its routing fee."""
    return _paid(Entry(at, Kind.TOPUP_PAID, payment_hash, provider(key), WALLET, amount), fee)


def paid_by_hand(at: float, payee: str, payment_hash: str, amount: Msat, fee: Msat) -> list[Entry]:
    """The entries for an invoice of a Lightning node that the owner had paid, and its routing fee."""
    return _paid(Entry(at, Kind.PAID_BY_HAND, payment_hash, by_hand(payee), WALLET, amount), fee)


def _paid(entry: Entry, fee: Msat) -> list[Entry]:
    entries = [entry]
    if fee:
        entries.append(Entry(entry.at, Kind.FEE_PAID, entry.reference, FEES, WALLET, fee))
    return entries


def work_received(at: float, key: str, reference: str, charge_msat: int) -> list[Entry]:
    """The entries for a provider's charge; one below zero gives money back."""
    if charge_msat > 0:
        return [Entry(at, Kind.WORK_RECEIVED, reference, SPENT, provider(key), Msat(charge_msat))]
    if charge_msat < 0:
        return [Entry(at, Kind.WORK_RETURNED, reference, provider(key), SPENT, Msat(-charge_msat))]
    return []


def credit_found(at: float, key: str, reference: str, amount: Msat) -> Entry:
    """The entry for an account that a provider opened with more in it than we had left there."""
    return Entry(at, Kind.CREDIT_FOUND, reference, provider(key), FOUND, amount)


# What the balance of each kind of account means: one that is not negative, and one that is.
_MEANINGS = {
    # What the owner put into the wallet is in no entry, so a home that only asks has a negative balance here.
    WALLET: ("customers paid in more than went out", "more went out than customers paid in"),
    "customer": ("has a balance with us", "owes us"),
    "provider": ("we have a balance with it", "we owe it"),
    "paid_by_hand": ("paid to it by hand", "paid to it by hand"),
    EARNED: ("charged for work done here", "given back for work done here"),
    FOUND: ("credit we did not pay for", "credit we did not pay for"),
    SPENT: ("charged for work done for us", "given back for work done for us"),
    FEES: ("fees for payments", "fees for payments"),
}


def meaning(account: str, balance: int) -> str:
    """What an account's balance means, in a few words for the owner."""
    return _MEANINGS[account.partition(":")[0]][balance < 0]


# Sums of debits and credits, in msat, by account and kind of entry.
type Sums = dict[tuple[str, str], tuple[int, int]]


def sums(entries: Iterable[Entry]) -> Sums:
    """Adds up the entries of each account, by kind."""
    found: Sums = {}
    for entry in entries:
        kind, amount = entry.kind.value, int(entry.amount)
        for account, debited, credited in ((entry.debit, amount, 0), (entry.credit, 0, amount)):
            debit, credit = found.get((account, kind), (0, 0))
            found[account, kind] = debit + debited, credit + credited
    return found


def balances(entries: Iterable[Entry]) -> dict[str, int]:
    """The balance of every account, in msat: debits less credits for assets and expenses, else the reverse."""
    found: dict[str, int] = {}
    for (account, _), (debit, credit) in sums(entries).items():
        found[account] = found.get(account, 0) + (debit - credit if is_debit_account(account) else credit - debit)
    return found


def imbalance(found: dict[str, int]) -> int:
    """Assets and expenses less liabilities and income, in msat: 0 in a ledger that is whole."""
    return sum(balance if is_debit_account(account) else -balance for account, balance in found.items())
