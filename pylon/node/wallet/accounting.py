"""The calls about money: what the wallet holds, what the ledger says, and whether they agree."""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pylon.errors import SetupError, UsageError
from pylon.money import audit
from pylon.money.audit import Finding, Wrong
from pylon.money.books import ledger
from pylon.money.books import store as ledger_store
from pylon.money.limits import Caps
from pylon.money.msat import Msat
from pylon.money.network import Network
from pylon.money.payment import PaymentRefusedError
from pylon.money.payments import store as payment_store
from pylon.money.payments.sender import Sender
from pylon.money.wallet import Wallet
from pylon.node.calls.params import number, text, whole
from pylon.node.wallet.refusals import explained
from pylon.nostr.bech32 import nip19
from pylon.store.database import Database
from pylon.store.look import check_in_use

INVOICE_S = 3_600


async def spending(database: Database, caps: Caps, now: float) -> dict[str, int]:
    """The spending limits and how much of each is used, in msat. Reserved amounts count as used, with their fees.
    `unknown` counts the payments of unknown outcome, and `unknown_msat` is what is set aside for them."""
    used = await payment_store.used_now(database, now)
    unknown, set_aside = await payment_store.unknown(database)
    return {
        "most_payment_msat": int(caps.payment),
        "most_fee_msat": int(caps.fee),
        "hour_msat": int(used.hour),
        "most_hour_msat": int(caps.hour),
        "day_msat": int(used.day),
        "most_day_msat": int(caps.day),
        "all_msat": int(used.all),
        "most_all_msat": int(caps.all),
        "unknown": unknown,
        "unknown_msat": int(set_aside),
    }


async def balance(wallet: Wallet, database: Database, network: Network, caps: Caps, now: float) -> dict[str, Any]:
    """The `wallet-balance` call: the wallet's balance, the accounts of the ledger, and the spending limits. A wallet
    may hold more money than the ledger knows of."""
    info = await wallet.info()
    return {
        "network": network.value,
        "unit": network.unit,
        "wallet": info.alias,
        "balance_msat": int(await wallet.balance()),
        "accounts": _accounts(await ledger_store.balances(database)),
        "spending": await spending(database, caps, now),
    }


async def invoice(wallet: Wallet, network: Network, params: dict[str, Any]) -> dict[str, Any]:
    """The `wallet-invoice` call: an invoice over `sats`, with a `description`, to fill the wallet by hand."""
    amount = Msat.from_sats(_sats(params, "sats"))
    made = await wallet.create_invoice(amount, description=text(params, "description", ""), expiry_s=INVOICE_S)
    return {"invoice": made, "amount_msat": int(amount), "network": network.value, "unit": network.unit}


async def pay(sender: Sender, network: Network, params: dict[str, Any]) -> dict[str, Any]:
    """The `wallet-pay` call: pays an `invoice` of at most `most_sat`. Raises `MoneyError`, `UsageError`."""
    most = Msat.from_sats(_sats(params, "most_sat"))
    try:
        payment = await sender.pay_by_hand(text(params, "invoice", ""), most=most)
    except PaymentRefusedError as error:
        raise explained(error) from error
    amount = int(payment.amount)
    return {"state": payment.state.value, "amount_msat": amount, "network": network.value, "unit": network.unit}


async def history(database: Database, network: Network, params: dict[str, Any]) -> dict[str, Any]:
    """The `wallet-history` call: at most `limit` entries of the ledger `since` a Unix time, newest first. `decided`:
    the owner, and not the wallet, said that this payment was made."""
    limit = whole(params, "limit", 50)
    entries = await ledger_store.entries(database, since=_since(params))
    newest = entries[::-1][:limit]
    decided = {payment.payment_hash for payment in await payment_store.decided(database)}
    rows = [
        {
            "booked_at": entry.at,
            "kind": entry.kind.value,
            "reference": entry.reference,
            "debit": _shown(entry.debit),
            "credit": _shown(entry.credit),
            "amount_msat": int(entry.amount),
            "decided": entry.kind in ledger.OF_PAYMENTS and entry.reference in decided,
        }
        for entry in newest
    ]
    return {"network": network.value, "unit": network.unit, "entries": rows}


def _shown(account: str) -> str:
    """The name of a ledger account, with a public key in it as an npub."""
    kind, colon, key = account.partition(":")
    return f"{kind}{colon}{nip19.shown_key(key)}"


def _accounts(balances: Mapping[str, int]) -> dict[str, int]:
    return {_shown(account): msat for account, msat in balances.items()}


async def totals(database: Database, network: Network) -> dict[str, Any]:
    """The `totals` call: what was earned by serving and paid for jobs in all, by the ledger."""
    balances = await ledger_store.balances(database)
    sums = {"earned_msat": balances.get(ledger.EARNED, 0), "paid_msat": balances.get(ledger.SPENT, 0)}
    return {"network": network.value, "unit": network.unit, **sums}


async def _damage(database: Database) -> list[Finding]:
    # An audit reads whole tables, so it would not notice a damaged index, and payments and limits are looked up by
    # index.
    try:
        await asyncio.to_thread(check_in_use, database.path)
    except SetupError as error:
        return [Finding(Wrong.DAMAGED, f"{error}. {error.hint}")]
    return []


async def examine(wallet: Wallet | None, database: Database, network: Network) -> dict[str, Any]:
    """The `wallet-audit` call: whether the ledger is consistent, and whether the wallet agrees with it.

    `paid_msat` and `earned_msat` are the charges of jobs. `sent_msat` and `received_msat` are what the wallet paid
    and received. They differ, since accounts are filled in advance.
    """
    async with database.transaction() as tx:
        books = await audit.collect(tx)
        decided = await payment_store.decided(tx)
    findings = await _damage(database) + audit.examine(books)
    if wallet is not None:
        findings += await audit.compare_with_wallet(wallet, books)
    balances = ledger.balances(books.entries)
    return {
        "network": network.value,
        "unit": network.unit,
        "audit": "clean" if not findings else "not clean",
        "findings": [asdict(finding) for finding in findings],
        "decided": [
            {
                "payment": payment.payment_hash,
                "state": payment.state.value,
                "proof": bool(payment.preimage),
                "amount_msat": int(payment.amount),
            }
            for payment in decided
        ],
        "entries": len(books.entries),
        "paid_msat": balances.get(ledger.SPENT, 0),
        "earned_msat": balances.get(ledger.EARNED, 0),
        "payments": sum(row["state"] == "settled" for row in books.payments),
        "invoices_paid": sum(row["state"] == "settled" for row in books.invoices),
        "sent_msat": sum(row["msat"] for row in books.payments if row["state"] == "settled"),
        "received_msat": sum(row["msat"] for row in books.invoices if row["state"] == "settled"),
        "accounts": _accounts(balances),
        "wallet_asked": wallet is not None,
    }


def _since(params: dict[str, Any]) -> float:
    # A number of days that is larger than today's date gives a negative time.
    return number(params, "since", 0.0, low=-math.inf)


def _sats(params: dict[str, Any], name: str) -> int:
    """An amount, which must be given and at least 1. Raises `UsageError`."""
    sats = params.get(name)
    if type(sats) is not int or sats <= 0:
        raise UsageError(f"{name} must be a whole number of at least 1")
    return sats
