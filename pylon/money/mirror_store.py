"""Our accounts with providers in SQLite: loads the values that `mirror` decides on, and books what was accepted."""

from pylon.money import ledger
from pylon.money import mirror as decider
from pylon.money.ledger_store import Reader, book
from pylon.money.mirror import Claim, Fault, Mirror, Outcome, Paid, Step
from pylon.money.msat import Msat
from pylon.money.receipt import AccountReceipt
from pylon.store.database import Row, Transaction


async def load(reader: Reader, provider: str) -> Mirror:
    """Where we stand with a provider; a new mirror when there was none."""
    row = await reader.fetch_one("SELECT * FROM money_mirror WHERE provider = ?", (provider,))
    waiting = await reader.fetch_all(
        "SELECT * FROM money_waiting WHERE provider = ? ORDER BY epoch, seq", (provider,)
    )
    claims = tuple(_claim(item) for item in waiting)
    if row is None:
        return Mirror(waiting=claims)
    return Mirror(
        epoch=row["epoch"],
        past_epochs=frozenset(row["past_epochs"].split()),
        seq=row["seq"],
        charged_total=Msat(row["charged_total"]),
        paid_seen=Msat(row["paid_seen"]),
        paid_base=row["paid_base"],
        short_since=row["short_since"],
        waiting=claims,
        ended=None if row["ended"] is None else Fault(row["ended"]),
    )


async def paid(reader: Reader, provider: str) -> Paid:
    """What we have paid this provider, and what may yet turn out to be paid."""
    row = await reader.fetch_one(
        """
        SELECT coalesce(sum(msat) FILTER (WHERE state = 'settled'), 0) AS settled,
            coalesce(sum(msat) FILTER (WHERE state IN ('reserved', 'sending', 'unknown')), 0) AS maybe
        FROM money_payment WHERE provider = ?
        """,
        (provider,),
    )
    return Paid(Msat(row["settled"]), Msat(row["maybe"])) if row else Paid()


async def observe(
    tx: Transaction, provider: str, job: str, receipt: AccountReceipt, *, quote: Msat, now: float
) -> Step:
    """A receipt came with a result or a feedback of a job of ours. `quote` is the most that the job may cost.

    `step.outcome` says what became of it; `step.mirror.ended` why the relation ended, if it did.
    """
    known = await tx.fetch_one(
        "SELECT * FROM money_claim WHERE provider = ? AND epoch = ? AND seq = ?",
        (provider, receipt.epoch, receipt.seq),
    )
    charged = await tx.fetch_one(
        "SELECT coalesce(sum(charge), 0) FROM money_claim WHERE provider = ? AND job = ?", (provider, job)
    )
    step = decider.observe(
        await load(tx, provider),
        Claim(receipt, job, quote, now),
        await paid(tx, provider),
        known=None if known is None else (_claim(known).receipt, known["job"]),
        job_charged=charged[0] if charged else 0,
    )
    if step.outcome not in (Outcome.DUPLICATE, Outcome.STALE):
        await _save(tx, provider, step, now)
    return step


async def tick(tx: Transaction, provider: str, now: float) -> Step:
    """Time passed; call it every few seconds for providers whose mirror waits, and at start."""
    step = decider.tick(await load(tx, provider), await paid(tx, provider), now)
    await _save(tx, provider, step, now)
    return step


async def waiting_providers(reader: Reader) -> list[str]:
    """Providers for which `tick` has something to do."""
    rows = await reader.fetch_all(
        "SELECT DISTINCT w.provider FROM money_waiting w LEFT JOIN money_mirror m ON m.provider = w.provider"
        " WHERE m.ended IS NULL"
        " UNION SELECT provider FROM money_mirror WHERE short_since IS NOT NULL AND ended IS NULL"
    )
    return [row[0] for row in rows]


async def _save(tx: Transaction, provider: str, step: Step, now: float) -> None:
    mirror = step.mirror
    for number, claim in enumerate(step.booked):
        receipt = claim.receipt
        reference = f"{provider}/{receipt.epoch}/{receipt.seq}"
        await tx.execute("INSERT INTO money_claim VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (provider, *_row(claim)))
        if number == 0 and step.found:
            await book(tx, [ledger.credit_found(now, provider, reference, step.found)])
        await book(tx, ledger.work_received(now, provider, reference, receipt.charge_msat))
    await tx.execute("DELETE FROM money_waiting WHERE provider = ?", (provider,))
    await tx.execute_many(
        "INSERT INTO money_waiting VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(provider, *_row(claim)) for claim in mirror.waiting],
    )
    await tx.execute(
        "INSERT INTO money_mirror VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (provider) DO UPDATE SET"
        " epoch = excluded.epoch, past_epochs = excluded.past_epochs, seq = excluded.seq,"
        " charged_total = excluded.charged_total, paid_seen = excluded.paid_seen, paid_base = excluded.paid_base,"
        " short_since = excluded.short_since, ended = excluded.ended",
        (
            provider,
            mirror.epoch,
            " ".join(sorted(mirror.past_epochs)),
            mirror.seq,
            int(mirror.charged_total),
            int(mirror.paid_seen),
            mirror.paid_base,
            mirror.short_since,
            None if mirror.ended is None else mirror.ended.value,
        ),
    )


def _row(claim: Claim) -> tuple[object, ...]:
    receipt = claim.receipt
    amounts = (int(claim.quote), receipt.charge_msat, int(receipt.charged_total), int(receipt.paid_total))
    return (receipt.epoch, receipt.seq, claim.job, *amounts, claim.at)


def _claim(row: Row) -> Claim:
    receipt = AccountReceipt(
        row["epoch"], row["seq"], row["charge"], Msat(row["charged_total"]), Msat(row["paid_total"])
    )
    return Claim(receipt, row["job"], Msat(row["quote"]), row["at"])
