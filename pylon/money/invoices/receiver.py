"""Being paid: issues invoices from our wallet, looks them up there, and credits those that were paid.

An invoice is in the database before anybody sees it, and counts as paid when a lookup says settled; notifications
only make us look sooner. What is credited is the stored amount, once, to the account of the customer for whom the
invoice was made, even if its job has expired meanwhile.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from pylon import log
from pylon.clock import Clock
from pylon.errors import MoneyError
from pylon.money.books import ledger
from pylon.money.books.store import book
from pylon.money.invoices import invoice as invoices
from pylon.money.invoices import store as invoice_store
from pylon.money.invoices.allowance import MAX_STRANGER_INVOICES, MAX_UNPAID_INVOICES, Allowance
from pylon.money.invoices.store import Issued
from pylon.money.limits import HOUR_S
from pylon.money.msat import Msat
from pylon.money.network import Network
from pylon.money.states import InvoiceState
from pylon.money.wallet import Lookup, LookupState, Wallet, WalletCode, WalletError, proves
from pylon.store.database import Database, Transaction

logger = log.get("money")

EXPIRY_S = 600
# An invoice is given up this long after its expiry: a payment may have been on its way when it expired.
GRACE_S = 60.0
# Given-up invoices are looked up for this long after their expiry, at start and at times that double each time.
MEMORY_S = 86_400.0
LOOKUPS_AT_ONCE = 8
# The most lookups in one call of invoices that still count, and of expired ones: a flood's are due together, and
# after a night asleep all of a day's. A wallet allows only so many requests a second, and notices come besides.
OPEN_LOOKUPS = LATE_LOOKUPS = 64
_DOWN = (WalletCode.UNREACHABLE, WalletCode.TIMEOUT)
# A wallet may have forgotten an invoice that ran out, and wallets differ in how they say so.
_MAY_BE_FORGOTTEN = (WalletCode.NOT_FOUND, WalletCode.INTERNAL, WalletCode.OTHER)
# An open invoice is asked about after a tenth of its age, and at least this often.
LOOKUP_EVERY_S = 30.0


class ReceiveCode(StrEnum):
    """Why no invoice was made, or no payment credited."""

    WALLET_DOWN = "wallet_down"
    WALLET_BUSY = "wallet_busy"  # it is there, and takes no more requests for a moment
    NOT_LIVE = "not_live"
    WALLET_INVOICE = "wallet_bad_invoice"  # our own wallet's invoice is malformed, expired or of another network
    WALLET_AMOUNT = "wallet_changed_amount"  # it was made for another amount: some wallets floor or drop it
    HASH_REUSED = "wallet_reused_hash"
    TOO_MANY = "too_many_stranger_invoices"
    TOO_MANY_UNPAID = "too_many_unpaid_invoices"  # this customer has paid before, and left many unpaid since
    TOPUP_OPEN = "topup_open"  # this customer has an unpaid invoice already
    JOB_HAD_INVOICE = "job_had_invoice"  # this job's invoice was paid, or given up: a customer pays a job once
    NOT_PROVEN = "wallet_settled_without_proof"


class ReceiveError(MoneyError):
    """`code` says what went wrong."""

    def __init__(self, code: ReceiveCode, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


@dataclass(frozen=True, slots=True)
class Credited:
    """A payment that was credited now. `job` is the job that asked for it; `late`: it came after the expiry."""

    customer: str
    job: str
    payment_hash: str
    amount: Msat
    late: bool


class Receiver:
    """Issues invoices from one wallet and credits what was paid. `live()` says whether live money is allowed now."""

    def __init__(
        self,
        database: Database,
        wallet: Wallet,
        clock: Clock,
        *,
        network: Network,
        live: Callable[[], bool] = lambda: False,
    ) -> None:
        self._database = database
        self._wallet = wallet
        self._clock = clock
        self._network = network
        self._live = live
        self._allowance = Allowance(database, clock)
        # When the wallet was last asked about each invoice, on the boot clock, which nobody sets.
        self._asked: dict[str, float] = {}

    async def issue(
        self, customer: str, job: str, amount: Msat, *, description: str, expiry_s: int = EXPIRY_S
    ) -> Issued:
        """Makes an invoice for a job and writes it to the disk; a job's open invoice is returned again.

        `expiry_s` is in seconds. Raises `ReceiveError`.
        """
        if self._network.is_live and not self._live():
            raise ReceiveError(ReceiveCode.NOT_LIVE, "live money is not allowed here")
        before = await invoice_store.of_job(self._database, job)
        if before is not None and before.state is not InvoiceState.PENDING:
            raise ReceiveError(
                ReceiveCode.JOB_HAD_INVOICE,
                f"the invoice of this job was {before.state.value}",
                hint="The customer must send a new request. Whatever it paid is credit.",
            )
        if before is not None:
            return before
        now = self._clock.wall()
        given_up = await invoice_store.count_given_up(
            self._database, customer, since=now - HOUR_S, until=now + HOUR_S
        )
        if given_up >= MAX_UNPAID_INVOICES:
            raise ReceiveError(
                ReceiveCode.TOO_MANY_UNPAID,
                f"{MAX_UNPAID_INVOICES} invoices of this customer were not paid within the last hour",
            )
        async with self._allowance.place(customer) as is_free:
            if not is_free:
                raise ReceiveError(
                    ReceiveCode.TOO_MANY,
                    f"{MAX_STRANGER_INVOICES} invoices were made for unknown keys in the last "
                    "hour; the next one has to wait",
                )
            issued = await self.prepare(customer, job, amount, description=description, expiry_s=expiry_s)
            async with self._database.transaction_here() as tx:
                await self.record(tx, issued)
        return issued

    async def prepare(
        self, customer: str, job: str, amount: Msat, *, description: str, expiry_s: int = EXPIRY_S
    ) -> Issued:
        """Makes an invoice in the wallet and checks it. `record` it before it is published. Raises `ReceiveError`."""
        try:
            text = await self._wallet.create_invoice(amount, description=description, expiry_s=expiry_s)
        except WalletError as error:
            if error.code is WalletCode.RATE_LIMITED:
                raise ReceiveError(ReceiveCode.WALLET_BUSY, f"the wallet made no invoice: {error}") from error
            raise ReceiveError(
                ReceiveCode.WALLET_DOWN,
                f"the wallet made no invoice: {error}",
                hint="Paid work is paused until the wallet answers; trusted keys are still served.",
            ) from error
        now = self._clock.wall()
        try:
            invoice = invoices.decode(text)
            said = invoices.check(invoice, network=self._network, now=now)
        except invoices.InvoiceError as error:
            code = ReceiveCode.WALLET_INVOICE
            if error.code in (invoices.InvoiceCode.NO_AMOUNT, invoices.InvoiceCode.NOT_WHOLE_SATS):
                code = ReceiveCode.WALLET_AMOUNT
            raise ReceiveError(code, f"the wallet's invoice cannot be used: {error}") from error
        if said != amount:
            raise ReceiveError(
                ReceiveCode.WALLET_AMOUNT, f"the wallet made an invoice for {said} msat instead of {amount}"
            )
        until, state = float(invoice.expires_at), InvoiceState.PENDING
        return Issued(invoice.payment_hash, job, customer, amount, invoice.text, now, until, state)

    async def record(self, tx: Transaction, issued: Issued) -> None:
        """Writes an invoice that `prepare` returned. Raises `ReceiveError`."""
        existing = await invoice_store.of_job(tx, issued.job)
        if existing is not None and existing.payment_hash == issued.payment_hash:
            return
        if await invoice_store.get(tx, issued.payment_hash) is not None:
            raise ReceiveError(ReceiveCode.HASH_REUSED, "the wallet gave a payment hash that it had given before")
        if existing is not None or await invoice_store.open_of(tx, issued.customer) is not None:
            raise ReceiveError(ReceiveCode.TOPUP_OPEN, "this customer already has an unpaid invoice")
        await invoice_store.add(tx, issued)

    async def look_up(self, payment_hash: str) -> Credited | None:
        """Asks the wallet about an invoice of ours; what was credited by that, if anything.

        Hashes that are not ours are ignored. Raises `WalletError`, and `ReceiveError` for a wallet that says settled
        and shows too low an amount or a wrong preimage.
        """
        issued = await invoice_store.get(self._database, payment_hash)
        if issued is None or issued.state is InvoiceState.SETTLED:
            return None
        lookup = await self._wallet.lookup(payment_hash)
        async with self._database.transaction_here() as tx:
            return await self.apply(tx, payment_hash, lookup)

    async def apply(self, tx: Transaction, payment_hash: str, lookup: Lookup) -> Credited | None:
        """Books the answer of a lookup in the caller's transaction; returns and raises as `look_up` does."""
        now = self._clock.wall()
        issued = await invoice_store.get(tx, payment_hash)
        if issued is None or issued.state is InvoiceState.SETTLED:
            return None
        if lookup.state is LookupState.SETTLED:
            _check_settled(issued, lookup)
            await invoice_store.move(tx, issued, InvoiceState.SETTLED, now)
            await book(tx, [ledger.topup_received(now, issued.customer, payment_hash, issued.amount)])
            late = now > issued.expires_at
            return Credited(issued.customer, issued.job, payment_hash, issued.amount, late)
        if issued.state is InvoiceState.PENDING and _ran_out(issued, now):
            await invoice_store.move(tx, issued, InvoiceState.EXPIRED, now)
        return None

    async def check(self, *, at_start: bool = False) -> list[Credited]:
        """Looks up the invoices that are due, and returns what was credited.

        Invoices that have not expired are due every few seconds, and all of them `at_start`. Expired ones are due
        more seldom the older they are, for a day. Of either at most 64 are looked up, and the rest in the next call,
        as when the wallet says that it has too much to do. Raises `WalletError` when the wallet does not answer; paid
        work is to be paused then.
        """
        now = self._clock.wall()
        due = await self._due(now, at_start=at_start)
        answers = await self._ask(due)
        silent: list[BaseException] = []
        for one, answer in zip(due, answers, strict=True):
            match answer:
                case ReceiveError():
                    # One bad answer does not keep the other invoices from being credited.
                    logger.error("an invoice cannot be credited", payment=one.payment_hash, code=answer.code.value)
                case WalletError(code=WalletCode.RATE_LIMITED):
                    # The wallet is there, and the invoice due again soon.
                    pass
                case WalletError() if _is_late(one, now) and not (at_start and answer.code in _DOWN):
                    # Given up already: nothing waits for the answer.
                    pass
                case WalletError() if _ran_out(one, now) and answer.code in _MAY_BE_FORGOTTEN:
                    await self._give_up(one)
                case BaseException():
                    silent.append(answer)
        credited = [answer for answer in answers if isinstance(answer, Credited)]
        if silent and not credited:
            raise silent[0]
        return credited

    async def _due(self, now: float, *, at_start: bool) -> list[Issued]:
        clock = self._clock.boot()
        issued = await invoice_store.to_check(self._database, ended_since=now - MEMORY_S)
        # Drops the times of invoices that are looked up no more.
        self._asked = {one.payment_hash: self._asked.get(one.payment_hash, -math.inf) for one in issued}
        due = [one for one in issued if at_start or clock >= self._asked[one.payment_hash] + _patience(one, now)]
        # Those that were asked about longest ago come first, since not all may be reached.
        due.sort(key=lambda one: self._asked[one.payment_hash])
        late = [one for one in due if _is_late(one, now)]
        counting = [one for one in due if not _is_late(one, now)]
        return (counting if at_start else counting[:OPEN_LOOKUPS]) + late[:LATE_LOOKUPS]

    async def _ask(self, due: list[Issued]) -> list[Credited | BaseException | None]:
        """Looks invoices up, some at a time, and gives what came of each; the rest is not asked about once the wallet
        answers nothing, or has no time."""
        clock = self._clock.boot()
        slots = asyncio.Semaphore(LOOKUPS_AT_ONCE)
        # The lookups without an answer since the last one with an answer, and those that the wallet had no time for.
        unanswered: list[WalletError] = []
        refused: list[WalletError] = []

        async def ask(one: Issued) -> Credited | None:
            async with slots:
                if len(unanswered) >= LOOKUPS_AT_ONCE:
                    # A wallet that answers nothing would hold up hundreds of these for minutes, eight at a time.
                    raise unanswered[0]
                if refused:
                    raise refused[0]
                self._asked[one.payment_hash] = clock
                try:
                    credited = await self.look_up(one.payment_hash)
                except WalletError as error:
                    if error.code in _DOWN:
                        unanswered.append(error)
                    if error.code is WalletCode.RATE_LIMITED:
                        refused.append(error)
                    raise
                unanswered.clear()
                return credited

        return await asyncio.gather(*(ask(one) for one in due), return_exceptions=True)

    async def _give_up(self, issued: Issued) -> None:
        async with self._database.transaction_here() as tx:
            # A notice may have had it looked up meanwhile.
            now = await invoice_store.get(tx, issued.payment_hash)
            if now is not None and now.state is InvoiceState.PENDING:
                await invoice_store.move(tx, now, InvoiceState.EXPIRED, self._clock.wall())


def _ran_out(issued: Issued, now: float) -> bool:
    # The clock was ahead when one from the future was made. Customers refuse to pay it, and while it counted its own
    # would be given no other.
    return now > issued.expires_at + GRACE_S or issued.created_at > now + invoices.MAX_AHEAD_S


def _is_late(issued: Issued, now: float) -> bool:
    # One that was given up before it ran out may still be paid in time; one that still counts may have been.
    return issued.state is InvoiceState.EXPIRED and _ran_out(issued, now)


def _patience(issued: Issued, now: float) -> float:
    """Seconds between two lookups of an invoice."""
    if _is_late(issued, now):
        return max(LOOKUP_EVERY_S, min(abs(now - issued.expires_at), MEMORY_S) / 2)
    return min(LOOKUP_EVERY_S, max(0.0, (now - issued.created_at) / 10))


def _check_settled(issued: Issued, lookup: Lookup) -> None:
    if lookup.preimage is not None and not proves(lookup.preimage, issued.payment_hash):
        raise ReceiveError(ReceiveCode.NOT_PROVEN, "the wallet says settled and shows a wrong preimage")
    if lookup.amount is not None and lookup.amount < issued.amount:
        raise ReceiveError(
            ReceiveCode.WALLET_AMOUNT, f"the wallet says that {lookup.amount} msat came of {issued.amount}"
        )
