"""Our accounts with providers in SQLite: loads the values that `mirror` decides on, and books what was accepted."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from pylon.money.accounts import gaps, orders
from pylon.money.accounts import mirror as decider
from pylon.money.accounts.mirror import Claim, End, Fault, Mirror, Paid, Step
from pylon.money.accounts.receipt import AccountReceipt, AccountSeen
from pylon.money.accounts.usage import UsageFault
from pylon.money.books import ledger
from pylon.money.books.store import Reader, book
from pylon.money.msat import ZERO, Msat
from pylon.money.payment import BY_HAND, PRESUMED_FAILED
from pylon.records import record
from pylon.store.database import Row, Transaction

# Below the number of values that SQLite takes in one statement anywhere.
_CHUNK = 500
# All that was paid is a sum that the ledger keeps; by themselves stand those payments alone that may count yet.
# SQLite takes an index of certain reasons where it is told to and these are written out.
_PAID = f"""
SELECT 'settled' AS what, debit AS msat, NULL AS at FROM money_sum WHERE account = :account AND kind = 'topup_paid'
UNION ALL SELECT 'recent', msat, changed_at FROM money_payment
    WHERE provider = :provider AND state = 'settled' AND changed_at > :since
UNION ALL SELECT 'maybe', msat, NULL FROM money_payment
    WHERE provider = :provider AND state IN ('reserved', 'sending', 'unknown')
UNION ALL SELECT 'maybe', msat, NULL FROM money_payment INDEXED BY money_payment_presumed
    WHERE provider = :provider AND state = 'failed' AND reason IN ({", ".join(map(repr, PRESUMED_FAILED))})
"""  # noqa: S608 - constants
# Of every provider that a payment was ever begun to.
_PAYEES = """
SELECT p.provider, coalesce(s.debit, 0) AS paid FROM (SELECT DISTINCT provider FROM money_payment) AS p
    LEFT JOIN money_sum AS s ON s.account = :prefix || p.provider AND s.kind = 'topup_paid'
    WHERE NOT instr(p.provider, :by_hand)
"""


async def load(reader: Reader, provider: str) -> Mirror:
    """Where we stand with a provider; a new mirror when there was none."""
    row = await reader.fetch_one(
        "SELECT m.*, EXISTS (SELECT 1 FROM money_waiting WHERE provider = :provider) AS waits"
        " FROM (SELECT 1) LEFT JOIN money_mirror m ON m.provider = :provider",
        {"provider": provider},
    )
    assert row is not None  # noqa: S101 - a LEFT JOIN of one row
    return await _mirror(reader, provider, row)


@record
class Position:
    """Where we stand with a provider by the books, receipts that wait counted. `balance` is in msat; below zero: what
    we owe. `asked` says whether a payment to it was ever begun, `suspended` whether receipts are missing for long."""

    seen: AccountSeen | None
    ended: End | None
    balance: int
    asked: bool
    suspended: bool


async def positions(reader: Reader) -> dict[str, Position]:
    """Of every provider that we were to pay, or had a receipt from."""
    # Summed here: what strangers charge may be more together than SQLite can add.
    left: defaultdict[str, int] = defaultdict(int)
    asked: set[str] = set()
    for row in await reader.fetch_all(_PAYEES, {"by_hand": BY_HAND, "prefix": ledger.provider("")}):
        asked.add(row["provider"])
        left[row["provider"]] += row["paid"]
    for row in await reader.fetch_all("SELECT provider, charge FROM money_waiting"):
        left[row["provider"]] -= row["charge"]
    mirrors = {provider: Mirror() for provider in left}
    for row in await reader.fetch_all("SELECT *, 0 AS waits FROM money_mirror"):
        mirrors[row["provider"]] = await _mirror(reader, row["provider"], row)
    return {
        provider: Position(
            mirror.seen,
            mirror.ended,
            left[provider] + decider.balance(mirror, Paid()),
            provider in asked,
            bool(mirror.suspended_until),
        )
        for provider, mirror in mirrors.items()
    }


async def verified(reader: Reader) -> dict[str, int]:
    """How many receipts of each provider were accepted."""
    rows = await reader.fetch_all("SELECT provider, count(*) AS n FROM money_claim GROUP BY provider")
    return {row["provider"]: row["n"] for row in rows}


async def paid(reader: Reader, provider: str, claims: Sequence[Claim] = ()) -> Paid:
    """What we have paid this provider, and what may yet turn out to be paid, as far as these claims ask."""
    rows = await reader.fetch_all(
        _PAID,
        {"provider": provider, "account": ledger.provider(provider), "since": decider.looks_back_to(claims)},
    )
    return Paid(
        sum((Msat(row["msat"]) for row in rows if row["what"] == "settled"), ZERO),
        tuple((row["at"], Msat(row["msat"])) for row in rows if row["what"] == "recent"),
        sum((Msat(row["msat"]) for row in rows if row["what"] == "maybe"), ZERO),
    )


async def observe(
    tx: Transaction,
    provider: str,
    job: str,
    receipt: AccountReceipt,
    *,
    quote: Msat,
    signed_at: float,
    now: float,
    fault: End | None = None,
) -> Step:
    """A receipt came with a result or a feedback of a job of ours.

    `quote` is the most that the job may cost, `signed_at` the `created_at` of the event that carried it, `fault` what
    that event itself showed to be wrong: it ends the relation once the receipt is booked.
    `step.outcome` says what became of it; `step.mirror.ended` why the relation ended, if it did.
    """
    # All that is known in one go: most often there is a mirror, and nothing else.
    [row] = await tx.fetch_all(
        "SELECT m.*, EXISTS (SELECT 1 FROM money_waiting WHERE provider = :provider) AS waits,"
        " EXISTS (SELECT 1 FROM money_payment WHERE provider = :provider) AS pays,"
        " EXISTS (SELECT 1 FROM money_claim WHERE provider = :provider AND epoch = :epoch AND seq = :seq) AS known,"
        " (SELECT coalesce(sum(charge), 0) FROM money_claim WHERE job = :job AND provider = :provider) AS job_charged"
        " FROM (SELECT 1) LEFT JOIN money_mirror m ON m.provider = :provider",
        {"provider": provider, "epoch": receipt.epoch, "seq": receipt.seq, "job": job},
    )
    mirror = await _mirror(tx, provider, row)
    claim = Claim(receipt, job, quote, min(signed_at, now), now)
    step = decider.observe(
        mirror,
        claim,
        await paid(tx, provider, (claim, *mirror.waiting)) if row["pays"] else Paid(),
        known=await _accepted(tx, provider, receipt) if row["known"] else None,
        job_charged=row["job_charged"],
    )
    if fault is not None:
        step = replace(step, mirror=decider.end(step.mirror, fault))
    if step.mirror is not mirror:
        await _save(tx, provider, mirror, step, now)
    return step


async def _accepted(tx: Transaction, provider: str, receipt: AccountReceipt) -> tuple[AccountReceipt, str]:
    """What was accepted under the number of this receipt, and the job that it came with."""
    row = await tx.fetch_one(
        "SELECT * FROM money_claim WHERE provider = ? AND epoch = ? AND seq = ?",
        (provider, receipt.epoch, receipt.seq),
    )
    assert row is not None  # noqa: S101 - the caller looked
    return _claim(row).receipt, row["job"]


async def tick(tx: Transaction, provider: str, now: float) -> Step:
    """Time passed; for `waiting_providers`, every few seconds while relays can be asked for what is missing."""
    mirror = await load(tx, provider)
    if not gaps.is_due(mirror, now):
        return gaps.tick(mirror, Paid(), now)
    ordered = await orders.unanswered(tx, since=now - orders.KEEP_S, providers=[provider])
    step = gaps.tick(mirror, await paid(tx, provider, mirror.waiting), now, [int(order.quote) for order in ordered])
    if step.mirror.skipped_to != mirror.skipped_to:
        await orders.close(tx, provider, now=now)
    await _save(tx, provider, mirror, step, now)
    return step


async def charged(reader: Reader, jobs: Sequence[str]) -> dict[str, int]:
    """What receipts charge for each of these jobs, in msat, those included that wait for what comes before them; jobs
    without one are left out."""
    found: dict[str, int] = {}
    for start in range(0, len(jobs), _CHUNK):
        chunk = jobs[start : start + _CHUNK]
        marks = ",".join("?" * len(chunk))
        rows = await reader.fetch_all(
            "SELECT job, sum(charge) FROM ("  # noqa: S608 - marks
            f"SELECT job, charge FROM money_claim WHERE job IN ({marks}) UNION ALL"
            # What is given back counts when its turn has come.
            " SELECT w.job, max(w.charge, 0) FROM money_waiting w LEFT JOIN money_mirror m ON m.provider = w.provider"
            f" WHERE w.job IN ({marks}) AND m.ended IS NULL) GROUP BY job",
            (*chunk, *chunk),
        )
        found.update((row[0], int(row[1])) for row in rows)
    return found


async def waiting_providers(reader: Reader) -> list[str]:
    """Providers for which `tick` has something to do."""
    rows = await reader.fetch_all(
        "SELECT DISTINCT w.provider FROM money_waiting w LEFT JOIN money_mirror m ON m.provider = w.provider"
        " WHERE m.ended IS NULL"
    )
    return [row[0] for row in rows]


async def resume(tx: Transaction, now: float) -> None:
    """We are back (at start, and when relays could not be reached): what waits has its minute from now on."""
    await tx.execute("UPDATE money_waiting SET at = ?", (now,))


async def _save(tx: Transaction, provider: str, before: Mirror, step: Step, now: float) -> None:
    mirror = step.mirror
    for number, claim in enumerate(step.booked):
        receipt = claim.receipt
        reference = f"{provider}/{receipt.epoch}/{receipt.seq}"
        await tx.execute("INSERT INTO money_claim VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (provider, *_row(claim)))
        if number == 0 and step.found:
            await book(tx, [ledger.credit_found(now, provider, reference, step.found)])
        await book(tx, ledger.work_received(now, provider, reference, receipt.charge_msat))
    if step.lost:
        missing = f"{provider}/{mirror.epoch}/lost by {mirror.skipped_to}"
        await book(tx, ledger.work_received(now, provider, missing, int(step.lost)))
    if mirror.waiting != before.waiting:
        await tx.execute("DELETE FROM money_waiting WHERE provider = ?", (provider,))
        await tx.execute_many(
            "INSERT INTO money_waiting VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(provider, *_row(claim)) for claim in mirror.waiting],
        )
    await tx.execute(
        "INSERT INTO money_mirror VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (provider) DO UPDATE SET"
        " epoch = excluded.epoch, past_epochs = excluded.past_epochs, seq = excluded.seq,"
        " charged_total = excluded.charged_total, paid_seen = excluded.paid_seen, paid_base = excluded.paid_base,"
        " short = excluded.short, ended = excluded.ended, suspended_until = excluded.suspended_until,"
        " lost = excluded.lost, skipped_to = excluded.skipped_to",
        (
            provider,
            mirror.epoch,
            " ".join(sorted(mirror.past_epochs)),
            mirror.seq,
            int(mirror.charged_total),
            int(mirror.paid_seen),
            mirror.paid_base,
            int(mirror.short),
            None if mirror.ended is None else mirror.ended.value,
            mirror.suspended_until,
            int(mirror.lost),
            mirror.skipped_to,
        ),
    )


async def _mirror(reader: Reader, provider: str, row: Row) -> Mirror:
    """The mirror of a row of its table, or of one that is empty but for `waits`."""
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
