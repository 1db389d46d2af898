"""Double entry: every amount leaves one account and reaches another. Entries in, balances out.

Both roles of a node keep their accounts here, side by side:

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

Amounts are msat. Nothing is ever changed or taken out; a mistake is undone by an entry the other way round.
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


# What is booked of a payment of ours.
OF_PAYMENTS = (Kind.TOPUP_PAID, Kind.PAID_BY_HAND, Kind.FEE_PAID)


@record
class Entry:
    """`amount` is debited to one account and credited to another. `at` is Unix seconds."""

    at: float
    kind: Kind
    reference: str
    debit: str
    credit: str
    amount: Msat


def customer(key: str) -> str:
    """The account of one customer of ours."""
    return f"customer:{key}"


def provider(key: str) -> str:
    """The account of one provider that works for us."""
    return f"provider:{key}"


def by_hand(payee: str) -> str:
    """The account of a Lightning node whose invoices the owner had paid: nobody works that off."""
    return f"paid_by_hand:{payee}"


def is_debit_account(account: str) -> bool:
    """Whether debits raise this account's balance: assets and expenses."""
    return account in (WALLET, SPENT, FEES) or account.startswith(("provider:", "paid_by_hand:"))


def topup_received(at: float, key: str, payment_hash: str, amount: Msat) -> Entry:
    """A customer's invoice was paid."""
    return Entry(at, Kind.TOPUP_RECEIVED, payment_hash, WALLET, customer(key), amount)


def charged(at: float, key: str, job: str, amount: Msat) -> Entry:
    """Work was done for a customer."""
    return Entry(at, Kind.CHARGED, job, customer(key), EARNED, amount)


def topup_paid(at: float, key: str, payment_hash: str, amount: Msat, fee: Msat) -> list[Entry]:
    """We paid a provider's invoice, and the way there."""
    return _paid(Entry(at, Kind.TOPUP_PAID, payment_hash, provider(key), WALLET, amount), fee)


def paid_by_hand(at: float, payee: str, payment_hash: str, amount: Msat, fee: Msat) -> list[Entry]:
    """An invoice of this Lightning node was paid that the owner gave, and the way there."""
    return _paid(Entry(at, Kind.PAID_BY_HAND, payment_hash, by_hand(payee), WALLET, amount), fee)


def _paid(entry: Entry, fee: Msat) -> list[Entry]:
    entries = [entry]
    if fee:
        entries.append(Entry(entry.at, Kind.FEE_PAID, entry.reference, FEES, WALLET, fee))
    return entries


def work_received(at: float, key: str, reference: str, charge_msat: int) -> list[Entry]:
    """A provider's receipt was accepted; a charge below zero gives back."""
    if charge_msat > 0:
        return [Entry(at, Kind.WORK_RECEIVED, reference, SPENT, provider(key), Msat(charge_msat))]
    if charge_msat < 0:
        return [Entry(at, Kind.WORK_RETURNED, reference, provider(key), SPENT, Msat(-charge_msat))]
    return []


def credit_found(at: float, key: str, reference: str, amount: Msat) -> Entry:
    """A provider opened an account with more in it for us than we had there."""
    return Entry(at, Kind.CREDIT_FOUND, reference, provider(key), FOUND, amount)


# What the balance of each kind of account says: of one that is not below zero, and of one that is.
_MEANINGS = {
    # What its owner put in by hand is in no entry, so that who only asks has less than nothing here.
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
    """What an account's balance says, in a few words for its owner."""
    return _MEANINGS[account.partition(":")[0]][balance < 0]


# What was debited and credited, in msat, by account and kind.
type Sums = dict[tuple[str, str], tuple[int, int]]


def sums(entries: Iterable[Entry]) -> Sums:
    """What the entries of each account add up to, by what they are about."""
    found: Sums = {}
    for entry in entries:
        kind, amount = entry.kind.value, int(entry.amount)
        for account, debited, credited in ((entry.debit, amount, 0), (entry.credit, 0, amount)):
            debit, credit = found.get((account, kind), (0, 0))
            found[account, kind] = debit + debited, credit + credited
    return found


def balances(entries: Iterable[Entry]) -> dict[str, int]:
    """The balance of every account, in msat, each on its own side: an asset we have is above zero."""
    found: dict[str, int] = {}
    for (account, _), (debit, credit) in sums(entries).items():
        found[account] = found.get(account, 0) + (debit - credit if is_debit_account(account) else credit - debit)
    return found


def imbalance(found: dict[str, int]) -> int:
    """Assets and expenses less liabilities and income, in msat: 0 in any ledger that is whole."""
    return sum(balance if is_debit_account(account) else -balance for account, balance in found.items())
