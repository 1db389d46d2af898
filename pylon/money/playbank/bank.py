"""The playbank: a bank of play money, with accounts, budgets and invoices in SQLite. `service` gives access to it.

Its invoices are real BOLT-11 with the prefix `lnbcrt`, signed with the bank's key, each with a real preimage; they
can be paid between accounts of this bank and nowhere else. A payment is one transaction. Paying the same invoice
again gives the same preimage and moves nothing.
"""

import hashlib
import os
from dataclasses import dataclass, replace

from pylon.clock import Clock
from pylon.errors import MoneyError
from pylon.money.books.store import Reader
from pylon.money.limits import DAY_S
from pylon.money.msat import MSAT_PER_SAT, Msat
from pylon.money.network import Network
from pylon.money.nwc.nip47 import ErrorCode
from pylon.money.playbank.make import MAX_DESCRIPTION, make_invoice
from pylon.nostr.keys import SecretKey
from pylon.store.database import Database, Row, Transaction

FAUCET = "faucet"
FAUCET_PER_DAY = Msat.from_sats(100_000)
MAX_EXPIRY_S = 7 * 86_400
MAX_INVOICE = Msat.from_sats(10_000_000)


class BankError(MoneyError):
    """The bank refuses a request. `code` is an error code of NIP-47."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Connection:
    """A client key that may use an account: only to receive, or to pay within a budget for each period (seconds)."""

    client: str
    account: str
    can_pay: bool
    budget: Msat | None
    budget_period_s: float


@dataclass(frozen=True, slots=True)
class BankInvoice:
    """An invoice of an account, and the account that paid it, if any. Times are Unix seconds."""

    payment_hash: str
    preimage: str
    account: str
    amount: Msat
    invoice: str
    description: str
    created_at: int
    expires_at: int
    payer: str | None
    settled_at: int | None


class PlayBank:
    """The accounts of one bank. The label of its database tells that apart from a node's."""

    def __init__(self, database: Database, key: SecretKey, clock: Clock) -> None:
        self._database = database
        self._key = key
        self._clock = clock

    async def connect(
        self,
        client: str,
        account: str,
        *,
        can_pay: bool,
        budget: Msat | None = None,
        budget_period_s: float = DAY_S,
    ) -> Connection:
        """Lets a client key use an account, which need not exist yet. Replaces the key's earlier connection."""
        if not account or account == FAUCET:
            raise MoneyError(f"{account!r} is not a name for an account")
        async with self._database.transaction() as tx:
            await tx.execute(
                "INSERT INTO bank_connection VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (client) DO UPDATE SET"
                " account = excluded.account, can_pay = excluded.can_pay, budget = excluded.budget,"
                " budget_period = excluded.budget_period",
                (
                    client,
                    account,
                    int(can_pay),
                    None if budget is None else int(budget),
                    budget_period_s,
                    self._clock.wall(),
                ),
            )
        return Connection(client, account, can_pay, budget, budget_period_s)

    async def connection(self, client: str) -> Connection | None:
        """The connection of a client key, if it has one."""
        row = await self._database.fetch_one("SELECT * FROM bank_connection WHERE client = ?", (client,))
        return None if row is None else _connection(row)

    async def clients(self, account: str) -> list[str]:
        """The client keys of an account."""
        rows = await self._database.fetch_all("SELECT client FROM bank_connection WHERE account = ?", (account,))
        return [row[0] for row in rows]

    async def faucet(self, account: str, amount: Msat) -> Msat:
        """Makes play money, at most 100,000 sat for an account and day; the new balance. Raises `BankError`.

        It is for the caller to offer this only to users of this machine.
        """
        now = self._clock.wall()
        async with self._database.transaction() as tx:
            [(given,)] = await tx.fetch_all(
                "SELECT coalesce(sum(msat), 0) FROM bank_entry WHERE source = ? AND target = ? AND at > ? AND at < ?",
                (FAUCET, account, now - DAY_S, now + DAY_S),
            )
            if amount == 0 or given + amount > FAUCET_PER_DAY:
                raise BankError(
                    ErrorCode.QUOTA_EXCEEDED,
                    f"the faucet gives at most {FAUCET_PER_DAY.whole_sats():,} play sat an account and day",
                )
            await _move(tx, now, f"faucet:{os.urandom(16).hex()}", FAUCET, account, amount)
            return Msat(await _balance(tx, account))

    async def balance(self, account: str) -> Msat:
        """What an account holds."""
        return Msat(await _balance(self._database, account))

    async def make_invoice(self, account: str, amount: Msat, *, description: str, expiry_s: int) -> BankInvoice:
        """Makes an invoice, which is in the database before it is returned. Raises `BankError`."""
        if not 0 < amount <= MAX_INVOICE or amount % MSAT_PER_SAT:
            raise BankError(ErrorCode.OTHER, "an invoice is for whole sats, 1 to 10,000,000")
        if not 1 <= expiry_s <= MAX_EXPIRY_S:
            raise BankError(ErrorCode.OTHER, "an invoice lasts a second to a week")
        preimage = os.urandom(32)
        now = int(self._clock.wall())
        text = make_invoice(
            self._key,
            currency=Network.PLAY.currency,
            amount=amount,
            payment_hash=hashlib.sha256(preimage).digest(),
            payment_secret=os.urandom(32),
            description=description,
            created_at=now,
            expiry_s=expiry_s,
        )
        made = BankInvoice(
            hashlib.sha256(preimage).hexdigest(),
            preimage.hex(),
            account,
            amount,
            text,
            description[:MAX_DESCRIPTION],
            now,
            now + expiry_s,
            None,
            None,
        )
        async with self._database.transaction() as tx:
            await tx.execute(
                "INSERT INTO bank_invoice (payment_hash, preimage, account, msat, invoice, description, created_at,"
                " expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (made.payment_hash, made.preimage, account, int(amount), text, made.description, now, now + expiry_s),
            )
        return made

    async def pay(self, connection: Connection, text: str) -> tuple[BankInvoice, bool]:
        """Pays an invoice of this bank; the invoice as paid, and whether money moved now. Raises `BankError`."""
        now = self._clock.wall()
        async with self._database.transaction() as tx:
            row = await tx.fetch_one("SELECT * FROM bank_invoice WHERE invoice = ?", (text.lower(),))
            if row is None:
                raise BankError(ErrorCode.PAYMENT_FAILED, "this invoice is not one of this bank's")
            invoice = _invoice(row)
            if invoice.settled_at is not None:
                if invoice.payer == connection.account:
                    return invoice, False
                raise BankError(ErrorCode.PAYMENT_FAILED, "this invoice is paid already")
            if now >= invoice.expires_at:
                raise BankError(ErrorCode.PAYMENT_FAILED, "this invoice has expired")
            if invoice.account == connection.account:
                raise BankError(ErrorCode.PAYMENT_FAILED, "an account does not pay itself")
            if await _budget_left(tx, connection, now) < invoice.amount:
                raise BankError(ErrorCode.QUOTA_EXCEEDED, "this connection's budget is used up")
            if await _balance(tx, connection.account) < invoice.amount:
                raise BankError(ErrorCode.INSUFFICIENT_BALANCE, "this account holds less than that")
            await _move(
                tx, now, f"payment:{invoice.payment_hash}", connection.account, invoice.account, invoice.amount
            )
            await tx.execute(
                "UPDATE bank_invoice SET payer = ?, client = ?, settled_at = ? WHERE payment_hash = ?",
                (connection.account, connection.client, int(now), invoice.payment_hash),
            )
        return replace(invoice, payer=connection.account, settled_at=int(now)), True

    async def find(self, account: str, *, payment_hash: str = "", text: str = "") -> BankInvoice | None:
        """An invoice that this account made or paid, by its payment hash or text."""
        row = await self._database.fetch_one(
            "SELECT * FROM bank_invoice WHERE (payment_hash = ? OR invoice = ?) AND (account = ? OR payer = ?)",
            (payment_hash, text.lower(), account, account),
        )
        return None if row is None else _invoice(row)

    async def history(self, account: str, *, limit: int, offset: int, since: int, until: int) -> list[BankInvoice]:
        """Invoices that this account made or paid, created between two Unix times, newest first."""
        rows = await self._database.fetch_all(
            "SELECT * FROM bank_invoice WHERE (account = :account OR payer = :account)"
            " AND created_at BETWEEN :since AND :until"
            " ORDER BY created_at DESC, payment_hash LIMIT :limit OFFSET :offset",
            {"account": account, "since": since, "until": until, "limit": limit, "offset": offset},
        )
        return [_invoice(row) for row in rows]


async def _move(tx: Transaction, at: float, reference: str, source: str, target: str, amount: Msat) -> None:
    await tx.execute(
        "INSERT INTO bank_entry (at, reference, source, target, msat) VALUES (?, ?, ?, ?, ?)",
        (at, reference, source, target, int(amount)),
    )


async def _balance(reader: Reader, account: str) -> int:
    row = await reader.fetch_one("SELECT msat FROM bank_balance WHERE account = ?", (account,))
    return 0 if row is None else int(row["msat"])


async def _budget_left(tx: Transaction, connection: Connection, now: float) -> int:
    if not connection.can_pay:
        return 0
    if connection.budget is None:
        return int(MAX_INVOICE)
    period_s = connection.budget_period_s
    # What a clock that was ahead has left in the future does not use the budget up until then.
    [(spent,)] = await tx.fetch_all(
        "SELECT coalesce(sum(msat), 0) FROM bank_invoice WHERE client = ? AND settled_at > ? AND settled_at < ?",
        (connection.client, now - period_s, now + period_s),
    )
    return int(connection.budget) - int(spent)


def _connection(row: Row) -> Connection:
    budget = None if row["budget"] is None else Msat(row["budget"])
    return Connection(row["client"], row["account"], bool(row["can_pay"]), budget, row["budget_period"])


def _invoice(row: Row) -> BankInvoice:
    return BankInvoice(
        row["payment_hash"],
        row["preimage"],
        row["account"],
        Msat(row["msat"]),
        row["invoice"],
        row["description"],
        row["created_at"],
        row["expires_at"],
        row["payer"],
        row["settled_at"],
    )
