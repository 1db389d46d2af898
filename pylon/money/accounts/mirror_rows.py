"""Our accounts with providers as SQLite rows: reads mirrors and claims into values, and writes them back."""

from pylon.money.accounts.mirror import Claim, End, Fault, Mirror, Step
from pylon.money.accounts.receipt import AccountReceipt
from pylon.money.accounts.usage import UsageFault
from pylon.money.books import ledger
from pylon.money.books.store import Reader, book
from pylon.money.msat import Msat
from pylon.store.database import Row, Transaction


async def mirror(reader: Reader, provider: str, row: Row) -> Mirror:
    """The mirror in a row of `money_mirror`, with the claims that wait where `waits` says that there are any.

    All other columns of the row are NULL where the provider has no mirror yet.
    """
    claims: tuple[Claim, ...] = ()
    if row["waits"]:
        waiting = await reader.fetch_all(
            "SELECT * FROM money_waiting WHERE provider = ? ORDER BY epoch, seq", (provider,)
        )
        claims = tuple(_claim(item) for item in waiting)
    if row["provider"] is None:
        return Mirror(waiting=claims)
    return Mirror(
        epoch=row["epoch"],
        past_epochs=frozenset(row["past_epochs"].split()),
        seq=row["seq"],
        charged_total=Msat(row["charged_total"]),
        paid_seen=Msat(row["paid_seen"]),
        paid_base=row["paid_base"],
        short=bool(row["short"]),
        waiting=claims,
        ended=_end(row["ended"]),
        suspended_until=row["suspended_until"],
        lost=Msat(row["lost"]),
        skipped_to=row["skipped_to"],
    )


async def accepted(tx: Transaction, provider: str, receipt: AccountReceipt) -> tuple[AccountReceipt, str]:
    """The receipt that was accepted under this receipt's epoch and number, and the job that it came with."""
    [row] = await tx.fetch_all(
        "SELECT * FROM money_claim WHERE provider = ? AND epoch = ? AND seq = ?",
        (provider, receipt.epoch, receipt.seq),
    )
    return _claim(row).receipt, row["job"]


async def save(tx: Transaction, provider: str, before: Mirror, step: Step, now: float) -> None:
    """Writes the mirror after a step from the mirror `before`, and books the accepted claims in the ledger."""
    after = step.mirror
    for number, claim in enumerate(step.booked):
        receipt = claim.receipt
        reference = f"{provider}/{receipt.epoch}/{receipt.seq}"
        await tx.execute("INSERT INTO money_claim VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (provider, *_row(claim)))
        if number == 0 and step.found:
            await book(tx, [ledger.credit_found(now, provider, reference, step.found)])
        await book(tx, ledger.work_received(now, provider, reference, receipt.charge_msat))
    if step.lost:
        missing = f"{provider}/{after.epoch}/lost by {after.skipped_to}"
        await book(tx, ledger.work_received(now, provider, missing, int(step.lost)))
    if after.waiting != before.waiting:
        await tx.execute("DELETE FROM money_waiting WHERE provider = ?", (provider,))
        await tx.execute_many(
            "INSERT INTO money_waiting VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(provider, *_row(claim)) for claim in after.waiting],
        )
    await tx.execute(
        "INSERT INTO money_mirror VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (provider) DO UPDATE SET"
        " epoch = excluded.epoch, past_epochs = excluded.past_epochs, seq = excluded.seq,"
        " charged_total = excluded.charged_total, paid_seen = excluded.paid_seen, paid_base = excluded.paid_base,"
        " short = excluded.short, ended = excluded.ended, suspended_until = excluded.suspended_until,"
        " lost = excluded.lost, skipped_to = excluded.skipped_to",
        (
            provider,
            after.epoch,
            " ".join(sorted(after.past_epochs)),
            after.seq,
            int(after.charged_total),
            int(after.paid_seen),
            after.paid_base,
            int(after.short),
            None if after.ended is None else after.ended.value,
            after.suspended_until,
            int(after.lost),
            after.skipped_to,
        ),
    )


def _end(code: str | None) -> End | None:
    if code is None:
        return None
    return UsageFault(code) if code in tuple(UsageFault) else Fault(code)


def _row(claim: Claim) -> tuple[object, ...]:
    receipt = claim.receipt
    amounts = (int(claim.quote), receipt.charge_msat, int(receipt.charged_total), int(receipt.paid_total))
    return (receipt.epoch, receipt.seq, claim.job, *amounts, claim.signed_at, claim.at)


def _claim(row: Row) -> Claim:
    receipt = AccountReceipt(
        row["epoch"], row["seq"], row["charge"], Msat(row["charged_total"]), Msat(row["paid_total"])
    )
    return Claim(receipt, row["job"], Msat(row["quote"]), row["signed_at"], row["at"])
