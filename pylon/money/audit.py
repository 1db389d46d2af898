"""The audit of the books (`pylon wallet audit`).

Entries balance and add up to the sums kept of them, each settled invoice and payment has its entries, receipts follow
from each other, accounts and mirrors match the ledger, and the wallet agrees. `collect` reads the database, `examine`
judges the values, and `compare_with_wallet` asks the wallet about every settled hash, and about payments that were
sent and count as failed.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pylon.money.accounts import mirror, mirror_store
from pylon.money.accounts.mirror import Paid
from pylon.money.books import ledger
from pylon.money.books import store as ledger_store
from pylon.money.books.ledger import Entry, Kind, Sums
from pylon.money.books.store import Reader
from pylon.money.msat import Msat
from pylon.money.payment import BY_HAND, DECIDED, UNSENT, not_before
from pylon.money.states import InvoiceState, PaymentState
from pylon.money.wallet import REFUSED_OUTRIGHT, Lookup, LookupState, Wallet, WalletError


class Wrong(StrEnum):
    """What does not hold. docs/money.md says what each means and what is to be done."""

    DAMAGED = "damaged"
    UNBALANCED = "unbalanced"
    SUM = "sum"
    INVOICE = "invoice"
    PAYMENT = "payment"
    FEE = "fee"
    RECEIPT = "receipt"
    CHARGE = "charge"
    ACCOUNT = "account"
    MIRROR = "mirror"
    WALLET_SILENT = "wallet_silent"
    WALLET_DIFFERS = "wallet_differs"
    PAID_AFTER_ALL = "paid_after_all"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not hold. `code` is for programs, `text` for people."""

    code: Wrong
    text: str


@dataclass(frozen=True, slots=True)
class Books:
    """All that has to agree.

    Rows are as in the tables; `sums` are those that the database keeps beside the entries; `mirrors` has what we have
    left with each provider by its receipts, in msat.
    """

    entries: Sequence[Entry]
    sums: Sums
    invoices: Sequence[Mapping[str, Any]]
    payments: Sequence[Mapping[str, Any]]
    receipts: Sequence[Mapping[str, Any]]
    mirrors: Mapping[str, int]


async def collect(reader: Reader) -> Books:
    """Reads the books. With a `Transaction` all of them are of one moment."""
    providers = [row[0] for row in await reader.fetch_all("SELECT provider FROM money_mirror")]
    payments = [dict(row) for row in await reader.fetch_all("SELECT * FROM money_payment")]
    # Added up from the rows, not taken from the sum that is kept of them.
    paid: defaultdict[str, int] = defaultdict(int)
    for row in payments:
        paid[row["provider"]] += row["msat"] if row["state"] == PaymentState.SETTLED else 0
    mirrors = {key: mirror.balance(await mirror_store.load(reader, key), Paid(Msat(paid[key]))) for key in providers}
    return Books(
        entries=await ledger_store.entries(reader),
        sums=await ledger_store.sums(reader),
        invoices=[dict(row) for row in await reader.fetch_all("SELECT * FROM money_invoice")],
        payments=payments,
        receipts=[dict(row) for row in await reader.fetch_all("SELECT * FROM money_receipt ORDER BY id")],
        mirrors=mirrors,
    )


def examine(books: Books) -> list[Finding]:
    """The findings in the books by themselves; empty when they are clean."""
    found: list[Finding] = []
    balances = ledger.balances(books.entries)
    off = ledger.imbalance(balances)
    if off:
        found.append(Finding(Wrong.UNBALANCED, f"debits and credits differ by {off} msat"))
    added = ledger.sums(books.entries)
    for account, kind in sorted(added.keys() | books.sums.keys()):
        kept, entered = (sums.get((account, kind), (0, 0)) for sums in (books.sums, added))
        if kept != entered:
            text = (
                f"{kind} of {account} is stored as {kept} msat on its two sides, but its entries add up to {entered}"
            )
            found.append(Finding(Wrong.SUM, text))
    found += _match(
        Wrong.INVOICE,
        {row["payment_hash"]: row["msat"] for row in books.invoices if row["state"] == InvoiceState.SETTLED},
        _amounts(books.entries, Kind.TOPUP_RECEIVED),
    )
    settled = [row for row in books.payments if row["state"] == PaymentState.SETTLED]
    found += _match(
        Wrong.PAYMENT,
        {row["payment_hash"]: row["msat"] for row in settled},
        _amounts(books.entries, Kind.TOPUP_PAID, Kind.PAID_BY_HAND),
    )
    found += _paid_to(settled, books.entries)
    found += _match(
        Wrong.FEE,
        {row["payment_hash"]: row["fee"] for row in settled if row["fee"]},
        _amounts(books.entries, Kind.FEE_PAID),
    )
    found += _receipts(books, balances)
    for key, expected in books.mirrors.items():
        held = balances.get(ledger.provider(key), 0)
        if held != expected:
            found.append(
                Finding(Wrong.MIRROR, f"at {key} the ledger has {held} msat, but the mirror expects {expected}")
            )
    return found


async def compare_with_wallet(wallet: Wallet, books: Books) -> list[Finding]:
    """Asks the wallet about every settled hash, and about every payment that was sent and counts as failed: a wallet
    may have paid one all the same, also one that it said it refused.

    A wallet that is down, or has forgotten a settled hash, is a finding too.
    """
    found: list[Finding] = []
    for row in (*books.invoices, *books.payments):
        failed = row["state"] == PaymentState.FAILED and row["reason"] not in UNSENT
        if row["state"] != PaymentState.SETTLED and not failed:
            continue
        since = not_before(row["invoice"], row["reserved_at"]) if "reserved_at" in row else None
        try:
            lookup = await wallet.lookup(row["payment_hash"], since=since)
        except WalletError as error:
            if row.get("reason") == DECIDED or row.get("reason") in REFUSED_OUTRIGHT:
                # Its owner decided because the wallet does not tell; the audit lists such payments by themselves. And
                # of one that it refused, the wallet has told.
                continue
            found.append(
                Finding(Wrong.WALLET_SILENT, f"the wallet gives no answer about {row['payment_hash']}: {error}")
            )
            continue
        settled = lookup.state is LookupState.SETTLED
        if failed and settled:
            found.append(Finding(Wrong.PAID_AFTER_ALL, f"{row['payment_hash']} counts as failed here, but was paid"))
        if not failed and not settled:
            found.append(
                Finding(
                    Wrong.WALLET_DIFFERS, f"{row['payment_hash']} is settled here, but {lookup.state} in the wallet"
                )
            )
        if not failed and settled:
            found += _differences(row, lookup)
    return found


def _differences(row: Mapping[str, Any], lookup: Lookup) -> list[Finding]:
    """Differences between books and wallet in the amount and the fee of a hash that is settled in both."""
    said = [("amount", row["msat"], lookup.amount)]
    if "fee" not in row:
        if lookup.amount is not None and lookup.amount > row["msat"]:
            # A payer may give more than an invoice asks for.
            return []
    elif row.get("reason") != DECIDED:
        # A fee that the owner decided is in whole sats.
        said.append(("fee", row["fee"], lookup.fee))
    return [
        Finding(
            Wrong.WALLET_DIFFERS,
            f"the {what} of {row['payment_hash']} is {booked} msat here, {int(found)} msat in the wallet",
        )
        for what, booked, found in said
        if found is not None and found != booked
    ]


def _paid_to(settled: Sequence[Mapping[str, Any]], entries: Sequence[Entry]) -> list[Finding]:
    """Payments that the ledger has booked to another account than their row names."""
    booked = {entry.reference: entry.debit for entry in entries if entry.kind in (Kind.TOPUP_PAID, Kind.PAID_BY_HAND)}
    found: list[Finding] = []
    for row in settled:
        # Older versions booked payments by hand to a provider's account.
        ours = {ledger.provider(row["provider"]), ledger.by_hand(row["provider"].removeprefix(BY_HAND))}
        if (account := booked.get(row["payment_hash"])) is not None and account not in ours:
            text = f"payment {row['payment_hash']}: to {row['provider']} by its row, to {account} in the ledger"
            found.append(Finding(Wrong.PAYMENT, text))
    return found


def _receipts(books: Books, balances: Mapping[str, int]) -> list[Finding]:
    found: list[Finding] = []
    charged: dict[str, int] = {}
    seqs: dict[tuple[str, str], int] = {}
    charges: dict[str, int] = {}
    for row in books.receipts:
        customer, place = row["customer"], (row["customer"], row["epoch"])
        seqs[place] = seqs.get(place, 0) + 1
        charged[customer] = charged.get(customer, 0) + row["charge"]
        if row["seq"] != seqs[place] or row["charged_total"] != charged[customer]:
            found.append(
                Finding(Wrong.RECEIPT, f"receipt {row['seq']} to {customer} does not follow from the last one")
            )
        if row["charge"]:
            charges[row["job"]] = row["charge"]
    found += _match(Wrong.CHARGE, charges, _amounts(books.entries, Kind.CHARGED))
    paid: dict[str, int] = {}
    for row in books.invoices:
        if row["state"] == InvoiceState.SETTLED:
            paid[row["customer"]] = paid.get(row["customer"], 0) + row["msat"]
    for customer in charged.keys() | paid.keys():
        held, expected = balances.get(ledger.customer(customer), 0), paid.get(customer, 0) - charged.get(customer, 0)
        if held != expected:
            found.append(
                Finding(Wrong.ACCOUNT, f"{customer} has {held} msat in the ledger, but {expected} by its receipts")
            )
    return found


def _amounts(entries: Sequence[Entry], *kinds: Kind) -> dict[str, int]:
    found: dict[str, int] = {}
    for entry in entries:
        if entry.kind in kinds:
            # Summed over kinds: a payment that is booked under two of them is booked twice.
            found[entry.reference] = found.get(entry.reference, 0) + int(entry.amount)
    return found


def _match(what: Wrong, rows: Mapping[str, int], booked: Mapping[str, int]) -> list[Finding]:
    return [
        Finding(what, f"{what} {key}: {rows.get(key)} msat in its row, but {booked.get(key)} in the ledger")
        for key in sorted(rows.keys() | booked.keys())
        if rows.get(key) != booked.get(key)
    ]
