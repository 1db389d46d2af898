"""Our payments in SQLite: their states, and what of them counts against the limits."""

from pylon.errors import MoneyError
from pylon.money.accounts import mirror_store
from pylon.money.books import ledger
from pylon.money.books.store import Reader, balance
from pylon.money.invoices.invoice import Invoice
from pylon.money.limits import AHEAD_S, DAY_S, HELD_S, HOUR_S, Spend, Used
from pylon.money.msat import ZERO, Msat
from pylon.money.payment import BY_HAND, DECIDED, PRESUMED_FAILED, Known, Order, Payment
from pylon.money.payments import payees as payee_store
from pylon.money.states import PaymentState, check_step
from pylon.money.wallet import WalletCode
from pylon.store.database import Row, Transaction

# How long a fee above its limit keeps us from paying that provider again, in seconds.
FEE_MEMORY_S = DAY_S
# The ledger keeps the sum of all that was ever paid. The index is named because SQLite would otherwise look for the
# last day's payments among all settled ones.
_USED = """
WITH
    open AS (SELECT coalesce(sum(msat + fee_limit), 0) AS msat,
            coalesce(sum(msat) FILTER (WHERE provider = :provider), 0) AS there,
            count(*) FILTER (WHERE reserved_at > :held AND reserved_at < :ahead) AS number,
            count(*) FILTER (WHERE reserved_at > :held AND reserved_at < :ahead AND NOT instr(provider, :by_hand)
                AND NOT EXISTS (SELECT 1 FROM money_claim WHERE provider = money_payment.provider)) AS newcomers
        FROM money_payment WHERE state IN ('reserved', 'sending', 'unknown')),
    lately AS (SELECT coalesce(sum(msat + fee) FILTER (WHERE reserved_at > :hour), 0) AS hour,
            coalesce(sum(msat + fee), 0) AS day
        FROM money_payment INDEXED BY money_payment_reserved
        WHERE state = 'settled' AND reserved_at > :day AND reserved_at < :ahead)
SELECT
    (SELECT coalesce(sum(msat + coalesce(fee, fee_limit)), 0) FROM money_payment
        WHERE job = :job AND state <> 'failed'),
    (SELECT coalesce(sum(msat + coalesce(fee, fee_limit)), 0) FROM money_payment
        WHERE :run <> '' AND run = :run AND state <> 'failed'),
    open.there, open.msat, lately.hour, lately.day,
    (SELECT coalesce(sum(credit), 0) FROM money_sum WHERE account = :wallet),
    open.number,
    CASE WHEN NOT instr(:provider, :by_hand) AND NOT EXISTS (SELECT 1 FROM money_claim WHERE provider = :provider)
        THEN open.newcomers END
FROM open, lately
"""


async def known(tx: Transaction, invoice: Invoice, order: Order, now: float) -> Known:
    """What our database knows that bears on paying this invoice for this order."""
    [row] = await tx.fetch_all(
        """
        SELECT
            EXISTS (SELECT 1 FROM money_payment WHERE payment_hash = :hash) AS hash_seen,
            EXISTS (SELECT 1 FROM money_invoice WHERE payment_hash = :hash) AS own,
            EXISTS (SELECT 1 FROM money_payment WHERE job = :job AND state = 'settled') AS job_paid,
            EXISTS (SELECT 1 FROM money_payment WHERE job = :job AND state <> 'settled'
                AND (state <> 'failed' OR reason IN (:arrived, :settled, :decided, :answered))) AS job_open,
            EXISTS (SELECT 1 FROM money_payment
                WHERE provider = :provider AND state IN ('reserved', 'sending', 'unknown')) AS provider_open,
            (SELECT payee FROM money_payee WHERE provider = :provider) AS payee,
            EXISTS (SELECT 1 FROM money_payment WHERE provider = :provider AND state = 'settled'
                AND fee > fee_limit AND changed_at > :since AND changed_at < :ahead) AS fees
        """,
        {
            "hash": invoice.payment_hash,
            "job": order.job,
            "provider": order.provider,
            "since": now - FEE_MEMORY_S,
            "ahead": now + AHEAD_S,
            **dict(zip(("arrived", "settled", "decided", "answered"), PRESUMED_FAILED, strict=True)),
        },
    )
    mirror = await mirror_store.load(tx, order.provider)
    return Known(
        hash_seen=bool(row["hash_seen"]),
        own_invoice=bool(row["own"]),
        job_paid=bool(row["job_paid"]),
        job_payment_open=bool(row["job_open"]),
        provider_payment_open=bool(row["provider_open"]),
        pinned_payee=row["payee"],
        relation_ended=mirror.ended is not None,
        receipts_pending=bool(mirror.waiting),
        credit_missing=mirror.short,
        fees_too_high=bool(row["fees"]),
    )


async def used(reader: Reader, spend: Spend, now: float) -> Used:
    """What counts against the limits of this payment. Open payments count in every window, however old they are."""
    [(*sums, in_flight, newcomers)] = await reader.fetch_all(
        _USED,
        {
            "job": spend.job,
            "provider": spend.provider,
            # Without a name, or paid by hand, it belongs to no run.
            "run": "" if spend.by_hand else spend.run,
            "hour": now - HOUR_S,
            "day": now - DAY_S,
            "held": now - HELD_S,
            "ahead": now + AHEAD_S,
            "by_hand": BY_HAND,
            "wallet": ledger.WALLET,
        },
    )
    job, run, provider, opened, hour, day, paid = map(Msat, sums)
    left = Msat(max(0, await balance(reader, ledger.provider(spend.provider))))
    return Used(job, provider + left, opened + hour, opened + day, run, opened + paid, in_flight, newcomers)


async def used_now(reader: Reader, now: float) -> Used:
    """What counts against the limits that all payments share: hour, day, all time, and payments in flight."""
    return await used(reader, Spend(ZERO, ZERO, "", "", ""), now)


async def reserve(tx: Transaction, invoice: Invoice, spend: Spend, now: float) -> Payment:
    """Writes a reservation, and pins the payee of its provider."""
    await tx.execute(
        "INSERT INTO money_payment (payment_hash, job, provider, run, msat, fee_limit, invoice, payee, expires_at,"
        " state, reserved_at, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'reserved', ?, ?)",
        (
            invoice.payment_hash,
            spend.job,
            spend.provider,
            spend.run,
            int(spend.amount),
            int(spend.fee_limit),
            invoice.text,
            invoice.payee,
            invoice.expires_at,
            now,
            now,
        ),
    )
    if not spend.by_hand:
        await payee_store.pin(tx, spend.provider, invoice.payee, now)
    return await get(tx, invoice.payment_hash)


async def move(tx: Transaction, payment_hash: str, state: PaymentState, reason: str, now: float) -> None:
    """Moves a payment to any state but `settled`. One that is in that state already stays as it is.

    Raises `IllegalStepError`, and `MoneyError` where there is no such payment.
    """
    before = (await get(tx, payment_hash)).state
    if before is state:
        return
    check_step("a payment", before, state)
    await tx.execute(
        "UPDATE money_payment SET state = ?, reason = ?, changed_at = ? WHERE payment_hash = ?",
        (state.value, reason, now, payment_hash),
    )


async def settle(
    tx: Transaction, payment_hash: str, preimage: str, fee: Msat, now: float, *, decided: bool = False
) -> bool:
    """Marks a payment as settled; False when it was before. Raises as `move` does.

    `preimage` is the proof; it may be empty where the owner `decided` that it was paid.
    """
    before = (await get(tx, payment_hash)).state
    if before is PaymentState.SETTLED:
        return False
    check_step("a payment", before, PaymentState.SETTLED)
    await tx.execute(
        "UPDATE money_payment SET state = 'settled', preimage = ?, fee = ?, reason = ?, changed_at = ?"
        " WHERE payment_hash = ?",
        (preimage, int(fee), DECIDED if decided else "", now, payment_hash),
    )
    return True


async def get(reader: Reader, payment_hash: str) -> Payment:
    """The payment with this hash. Raises `MoneyError` when there is none."""
    row = await reader.fetch_one("SELECT * FROM money_payment WHERE payment_hash = ?", (payment_hash,))
    if row is None:
        raise MoneyError("there is no such payment")
    return _payment(row)


async def in_state(reader: Reader, *states: PaymentState) -> list[Payment]:
    """Payments in these states, oldest first."""
    marks = ",".join("?" * len(states))
    rows = await reader.fetch_all(
        f"SELECT * FROM money_payment WHERE state IN ({marks}) ORDER BY reserved_at",  # noqa: S608 - marks only
        [state.value for state in states],
    )
    return [_payment(row) for row in rows]


async def unknown(reader: Reader) -> tuple[int, Msat]:
    """How many payments are of unknown outcome, and what is set aside for them, in msat."""
    [(count, msat)] = await reader.fetch_all(
        "SELECT count(*), coalesce(sum(msat + fee_limit), 0) FROM money_payment WHERE state = 'unknown'"
    )
    return count, Msat(msat)


async def decided(reader: Reader) -> list[Payment]:
    """Payments whose outcome the owner decided, oldest first."""
    rows = await reader.fetch_all(
        "SELECT * FROM money_payment WHERE state IN ('settled', 'failed') AND reason = ? ORDER BY reserved_at",
        (DECIDED,),
    )
    return [_payment(row) for row in rows]


async def unfunded(reader: Reader, *, since: float) -> list[Payment]:
    """Payments that failed because the wallet held too little, where no later payment to that provider was begun.

    Only those of invoices that expire after `since` (Unix seconds).
    """
    rows = await reader.fetch_all(
        "SELECT * FROM money_payment AS p WHERE state = 'failed' AND reason = ? AND expires_at > ? AND NOT EXISTS"
        " (SELECT 1 FROM money_payment AS q WHERE q.provider = p.provider AND q.reserved_at > p.reserved_at)"
        " AND NOT instr(provider, ?)",
        (WalletCode.INSUFFICIENT_BALANCE.value, since, BY_HAND),
    )
    return [_payment(row) for row in rows]


def _payment(row: Row) -> Payment:
    return Payment(
        payment_hash=row["payment_hash"],
        job=row["job"],
        provider=row["provider"],
        run=row["run"],
        amount=Msat(row["msat"]),
        fee_limit=Msat(row["fee_limit"]),
        fee=None if row["fee"] is None else Msat(row["fee"]),
        invoice=row["invoice"],
        payee=row["payee"],
        expires_at=row["expires_at"],
        state=PaymentState(row["state"]),
        preimage=row["preimage"],
        reason=row["reason"],
        reserved_at=row["reserved_at"],
    )
