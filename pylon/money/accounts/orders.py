"""A customer's orders in SQLite: what it needs to judge a receipt that comes after its process has died."""

from collections.abc import Sequence

from pylon.clock import BELIEVED_S
from pylon.money.accounts.usage import Bounds
from pylon.money.books.store import Reader
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.records import record
from pylon.store.database import Row, Transaction

# Relays and providers keep results for an hour after a job's deadline, which is ten minutes away unless asked.
KEEP_S = 2 * 3_600.0

INSERT = "INSERT INTO money_order VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


@record
class Ordered:
    """A request that went out, or was about to. `kind` is that of the request event, `at` is in Unix seconds."""

    job: str
    provider: str
    kind: int
    quote: Msat
    price: Price
    bounds: Bounds
    at: float

    @property
    def row(self) -> tuple[object, ...]:
        """The values for `INSERT`."""
        price = self.price
        rates = (int(price.base_msat), int(price.in_msat_per_1k), int(price.out_msat_per_1k))
        bounds = (self.bounds.prompt_bytes, self.bounds.max_tokens)
        return (self.job, self.provider, self.kind, int(self.quote), *rates, *bounds, self.at)


async def unanswered(reader: Reader, *, since: float, providers: Sequence[str] | None = None) -> list[Ordered]:
    """Orders since `since` (Unix seconds) that no receipt came for, oldest first; only of `providers`, if given."""
    rows = await reader.fetch_all(
        "SELECT * FROM money_order o WHERE at >= ? AND NOT EXISTS (SELECT 1 FROM money_claim WHERE job = o.job)"
        " AND NOT EXISTS (SELECT 1 FROM money_waiting WHERE job = o.job AND provider = o.provider) ORDER BY at",
        (since,),
    )
    return [_ordered(row) for row in rows if providers is None or row["provider"] in providers]


async def dearest(reader: Reader, *, since: float) -> dict[str, Msat]:
    """The highest quote among the orders since `since` (Unix seconds), by provider."""
    rows = await reader.fetch_all(
        "SELECT provider, max(quote) AS quote FROM money_order WHERE at >= ? GROUP BY provider", (since,)
    )
    return {row["provider"]: Msat(row["quote"]) for row in rows}


async def close(tx: Transaction, provider: str, *, now: float) -> None:
    """Drops what this provider was given by `now` (Unix seconds): it cannot explain another gap."""
    await tx.execute("DELETE FROM money_order WHERE provider = ? AND at <= ?", (provider, now))


async def forget(tx: Transaction, *, before: float) -> None:
    """Drops orders from before `before` (Unix seconds), which cannot be answered any more."""
    await tx.execute("DELETE FROM money_order WHERE at < ?", (before,))


async def forget_old(tx: Transaction, *, now: float) -> None:
    """Drops orders that cannot be answered any more. `now` is in Unix seconds.

    They grow old by the dates of later ones. With a date far ahead all would be old at once, and nothing would
    explain their providers' receipts once it is right.
    """
    await tx.execute(
        "DELETE FROM money_order WHERE at < (SELECT max(at) FROM money_order WHERE at <= ?) - ?",
        (now - BELIEVED_S, KEEP_S),
    )


def _ordered(row: Row) -> Ordered:
    return Ordered(
        row["job"],
        row["provider"],
        row["kind"],
        Msat(row["quote"]),
        Price(Msat(row["base"]), Msat(row["rate_in"]), Msat(row["rate_out"])),
        Bounds(row["prompt_bytes"], row["max_tokens"]),
        row["at"],
    )
