"""Our accounts with providers in SQLite: loads the values that `following` and `gaps` decide on, and writes what they
decide (`mirror_rows`)."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from pylon.money.accounts import following, gaps, mirror_rows, orders
from pylon.money.accounts.mirror import Claim, End, Mirror, Paid, Step, balance, looks_back_to
from pylon.money.accounts.receipt import AccountSeen
from pylon.money.books import ledger
from pylon.money.books.store import Reader
from pylon.money.msat import ZERO, Msat
from pylon.money.payment import BY_HAND, PRESUMED_FAILED
from pylon.records import record
from pylon.store import marks
from pylon.store.database import Transaction

# The most values in one statement: below the limit of every build of SQLite.
_CHUNK = 500
# The ledger keeps the sum of settled payments; single rows are read only of recent, open and presumed-failed ones.
# SQLite uses the partial index of presumed failures only if told to, with its reasons written out.
_PAID = f"""
SELECT 'settled' AS what, debit AS msat, NULL AS at FROM money_sum WHERE account = :account AND kind = 'topup_paid'
UNION ALL SELECT 'recent', msat, changed_at FROM money_payment
    WHERE provider = :provider AND state = 'settled' AND changed_at > :since
UNION ALL SELECT 'open', msat, NULL FROM money_payment
    WHERE provider = :provider AND state IN ('reserved', 'sending', 'unknown')
UNION ALL SELECT 'maybe', msat, NULL FROM money_payment INDEXED BY money_payment_presumed
    WHERE provider = :provider AND state = 'failed' AND reason IN ({", ".join(map(repr, PRESUMED_FAILED))})
"""  # noqa: S608 - constants
# What was paid to every provider that a payment was ever begun to.
_PAYEES = """
SELECT p.provider, coalesce(s.debit, 0) AS paid FROM (SELECT DISTINCT provider FROM money_payment) AS p
    LEFT JOIN money_sum AS s ON s.account = :prefix || p.provider AND s.kind = 'topup_paid'
    WHERE NOT instr(p.provider, :by_hand)
"""


async def load(reader: Reader, provider: str) -> Mirror:
    """Our account with a provider; an empty mirror if there is none."""
    [row] = await reader.fetch_all(
        "SELECT m.*, EXISTS (SELECT 1 FROM money_waiting WHERE provider = :provider) AS waits"
        " FROM (SELECT 1) LEFT JOIN money_mirror m ON m.provider = :provider",
        {"provider": provider},
    )
    return await mirror_rows.mirror(reader, provider, row)


@record
class Position:
    """What we have left with a provider, with waiting receipts counted as if accepted.

    `balance` is in msat, negative if we owe. `ended` says why the relation ended, `asked` whether a payment to the
    provider was ever begun, and `suspended` whether it is left alone because receipts are missing.
    """

    seen: AccountSeen | None
    ended: End | None
    balance: int
    asked: bool
    suspended: bool


async def positions(reader: Reader) -> dict[str, Position]:
    """The positions with all providers that a payment was begun to or a receipt came from, by provider."""
    # Summed in Python: what strangers charge together may be more than SQLite's 64 bits hold.
    left: defaultdict[str, int] = defaultdict(int)
    asked: set[str] = set()
    for row in await reader.fetch_all(_PAYEES, {"by_hand": BY_HAND, "prefix": ledger.provider("")}):
        asked.add(row["provider"])
        left[row["provider"]] += row["paid"]
    for row in await reader.fetch_all("SELECT provider, charge FROM money_waiting"):
        left[row["provider"]] -= row["charge"]
    mirrors = {provider: Mirror() for provider in left}
    for row in await reader.fetch_all("SELECT *, 0 AS waits FROM money_mirror"):
        mirrors[row["provider"]] = await mirror_rows.mirror(reader, row["provider"], row)
    return {
        provider: Position(
            mirror.seen,
            mirror.ended,
            left[provider] + balance(mirror, Paid()),
            provider in asked,
            bool(mirror.suspended_until),
        )
        for provider, mirror in mirrors.items()
    }


async def done(reader: Reader) -> dict[str, int]:
    """The sum of the quotes of the jobs whose receipts were accepted, in msat, by provider."""
    rows = await reader.fetch_all("SELECT provider, sum(quote) AS quotes FROM money_claim GROUP BY provider")
    return {row["provider"]: row["quotes"] for row in rows}


async def paid(reader: Reader, provider: str, claims: Sequence[Claim] = ()) -> Paid:
    """Our payments to this provider, settled or possible; `recent` as far back as `claims` need."""
    rows = await reader.fetch_all(
        _PAID,
        {"provider": provider, "account": ledger.provider(provider), "since": looks_back_to(claims)},
    )
    return Paid(
        sum((Msat(row["msat"]) for row in rows if row["what"] == "settled"), ZERO),
        tuple((row["at"], Msat(row["msat"])) for row in rows if row["what"] == "recent"),
        sum((Msat(row["msat"]) for row in rows if row["what"] in ("maybe", "open")), ZERO),
        sum((Msat(row["msat"]) for row in rows if row["what"] == "open"), ZERO),
    )


async def observe(tx: Transaction, provider: str, claim: Claim, *, fault: End | None = None) -> Step:
    """Checks and books a receipt that came with a result or a feedback for a job of ours.

    `fault` is what the event that carried it showed to be wrong itself: it ends the relation once the receipt is
    booked. The step's `outcome` says what was made of the receipt, and `mirror.ended` why the relation ended, if it
    did.
    """
    receipt = claim.receipt
    # One query for all of it: most often there is a mirror, and nothing else.
    [row] = await tx.fetch_all(
        "SELECT m.*, EXISTS (SELECT 1 FROM money_waiting WHERE provider = :provider) AS waits,"
        " EXISTS (SELECT 1 FROM money_payment WHERE provider = :provider) AS pays,"
        " EXISTS (SELECT 1 FROM money_claim WHERE provider = :provider AND epoch = :epoch AND seq = :seq) AS known,"
        " (SELECT coalesce(sum(charge), 0) FROM money_claim WHERE job = :job AND provider = :provider) AS job_charged"
        " FROM (SELECT 1) LEFT JOIN money_mirror m ON m.provider = :provider",
        {"provider": provider, "epoch": receipt.epoch, "seq": receipt.seq, "job": claim.job},
    )
    mirror = await mirror_rows.mirror(tx, provider, row)
    step = following.observe(
        mirror,
        claim,
        await paid(tx, provider, (claim, *mirror.waiting)) if row["pays"] else Paid(),
        known=await mirror_rows.accepted(tx, provider, receipt) if row["known"] else None,
        job_charged=row["job_charged"],
    )
    if fault is not None:
        step = replace(step, mirror=following.end(step.mirror, fault))
    if step.mirror is not mirror:
        await mirror_rows.save(tx, provider, mirror, step, claim.at)
    return step


async def tick(tx: Transaction, provider: str, now: float) -> Step:
    """Decides on receipts that have waited too long. To be called for `waiting_providers` every few seconds while
    relays can be asked for what is missing."""
    # A clock that was set back makes nothing wait longer.
    await tx.execute("UPDATE money_waiting SET at = ? WHERE provider = ? AND at > ?", (now, provider, now))
    mirror = await load(tx, provider)
    if not gaps.is_due(mirror, now):
        return gaps.tick(mirror, Paid(), now)
    step = gaps.tick(
        mirror,
        await paid(tx, provider, mirror.waiting),
        now,
        await _quotes(tx, provider, now),
        answered=await _answered(tx, provider),
    )
    # A provider that was not left alone before may be at work.
    if mirror.suspended_until and step.mirror.skipped_to != mirror.skipped_to:
        await orders.close(tx, provider, now=now)
    await mirror_rows.save(tx, provider, mirror, step, now)
    return step


async def _quotes(tx: Transaction, provider: str, now: float) -> list[int] | None:
    """The most that each job may cost which this provider has not answered, in msat; None where not all are known."""
    begun_at = await marks.begun_at(tx)
    if begun_at is not None and begun_at <= now < begun_at + orders.KEEP_S:
        return None
    ordered = await orders.unanswered(tx, since=now - orders.KEEP_S, providers=[provider])
    return [int(order.quote) for order in ordered]


async def _answered(tx: Transaction, provider: str) -> int:
    """What the accepted receipts of a provider charged, in msat."""
    rows = await tx.fetch_all("SELECT charge FROM money_claim WHERE provider = ?", (provider,))
    # Summed in Python: what a stranger gives back may be more than SQLite's 64 bits hold.
    return sum([row["charge"] for row in rows])


async def charged(reader: Reader, jobs: Sequence[str]) -> dict[str, int]:
    """What receipts charge for each of these jobs, in msat, waiting ones included. Jobs without one are left out.

    A job for which more was given back than it cost has cost nothing: what a provider gives back stays with it, and
    makes no room for what others charge.
    """
    found: dict[str, int] = {}
    for start in range(0, len(jobs), _CHUNK):
        chunk = jobs[start : start + _CHUNK]
        marks = ",".join("?" * len(chunk))
        rows = await reader.fetch_all(
            "SELECT job, sum(charge) FROM ("  # noqa: S608 - marks
            f"SELECT job, charge FROM money_claim WHERE job IN ({marks}) UNION ALL"
            # A charge below zero counts only once it is accepted.
            " SELECT w.job, max(w.charge, 0) FROM money_waiting w LEFT JOIN money_mirror m ON m.provider = w.provider"
            f" WHERE w.job IN ({marks}) AND m.ended IS NULL) GROUP BY job",
            (*chunk, *chunk),
        )
        found.update((row[0], max(0, int(row[1]))) for row in rows)
    return found


async def waiting_providers(reader: Reader) -> list[str]:
    """Providers with waiting receipts: `tick` may have to decide on them."""
    rows = await reader.fetch_all(
        "SELECT DISTINCT w.provider FROM money_waiting w LEFT JOIN money_mirror m ON m.provider = w.provider"
        " WHERE m.ended IS NULL"
    )
    return [row[0] for row in rows]


async def resume(tx: Transaction, now: float) -> None:
    """Restarts the wait of all waiting receipts: at start, and once relays can be reached again."""
    await tx.execute("UPDATE money_waiting SET at = ?", (now,))
