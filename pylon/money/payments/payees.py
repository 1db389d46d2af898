"""The Lightning node that each provider is paid at: pinned by the first payment, and changed only by our owner.

A provider whose wallet has changed its node offers the new one in every invoice. The last such offer is kept until a
person trusts it (`pylon wallet trust-payee`), or an invoice of the pinned node is paid.
"""

from dataclasses import dataclass

from pylon.errors import UsageError
from pylon.money.books.store import Reader
from pylon.money.msat import Msat
from pylon.store.database import Row, Transaction

_OFFERS = (
    "SELECT o.provider, p.payee AS pinned, o.payee AS offered, o.at, (SELECT coalesce(sum(msat), 0)"
    " FROM money_payment AS m WHERE m.provider = o.provider AND m.payee = p.payee AND m.state = 'settled') AS paid"
    " FROM money_payee_offer AS o JOIN money_payee AS p ON p.provider = o.provider"
)


@dataclass(frozen=True, slots=True)
class Offer:
    """A provider that asks to be paid at another node than before.

    `paid` is what went to the `pinned` node, in msat; `at` is when it last asked, in Unix seconds.
    """

    provider: str
    pinned: str
    offered: str
    paid: Msat
    at: float


async def pin(tx: Transaction, provider: str, payee: str, now: float) -> None:
    """Pins a node for which a payment is reserved, unless one is pinned already, and drops an earlier offer."""
    await tx.execute(
        "INSERT INTO money_payee VALUES (?, ?, ?) ON CONFLICT (provider) DO NOTHING", (provider, payee, now)
    )
    await tx.execute("DELETE FROM money_payee_offer WHERE provider = ?", (provider,))


async def offered(tx: Transaction, provider: str, payee: str, now: float) -> None:
    """Keeps the offer of an invoice of this provider that pays another node than the pinned one."""
    await tx.execute(
        "INSERT INTO money_payee_offer VALUES (?, ?, ?) ON CONFLICT (provider) DO UPDATE SET payee = excluded.payee,"
        " at = excluded.at",
        (provider, payee, now),
    )


async def offers(reader: Reader) -> list[Offer]:
    """The offers of all providers, newest first."""
    return [_offer(row) for row in await reader.fetch_all(f"{_OFFERS} ORDER BY o.at DESC, o.provider")]


async def untrusted(reader: Reader) -> set[str]:
    """The providers that have an offer."""
    return {row["provider"] for row in await reader.fetch_all("SELECT provider FROM money_payee_offer")}


async def trust(tx: Transaction, provider: str, *, pinned: str, offered: str, now: float) -> Offer:
    """Pins the node that this provider offers. `pinned` and `offered` are the nodes that a person saw.

    Raises `UsageError`, and changes nothing, where these have changed since, or nothing is offered.
    """
    row = await tx.fetch_one(f"{_OFFERS} WHERE o.provider = ?", (provider,))
    if row is None:
        raise UsageError(
            "this provider does not ask to be paid at a different node",
            hint="`pylon wallet trust-payee` lists those that do.",
        )
    found = _offer(row)
    if (found.pinned, found.offered) != (pinned, offered):
        raise UsageError(
            "in the meantime, this provider asks to be paid at yet another node; nothing was changed",
            hint="Run `pylon wallet trust-payee` again to see the new node.",
        )
    await tx.execute("UPDATE money_payee SET payee = ?, at = ? WHERE provider = ?", (offered, now, provider))
    await tx.execute("DELETE FROM money_payee_offer WHERE provider = ?", (provider,))
    return found


def _offer(row: Row) -> Offer:
    return Offer(row["provider"], row["pinned"], row["offered"], Msat(row["paid"]), row["at"])
