"""The calls about providers that ask to be paid at another Lightning node (payee) than before."""

from typing import Any

from pylon.errors import UsageError, WireError
from pylon.money.network import Network
from pylon.money.payments import payees as payee_store
from pylon.money.payments.payees import Offer
from pylon.node.calls.params import text
from pylon.nostr.bech32 import nip19
from pylon.store.database import Database


async def offers(database: Database, network: Network) -> dict[str, Any]:
    """The `wallet-payees` call: these providers, their old and new payee, and what was paid to the old one."""
    found = await payee_store.offers(database)
    return {"network": network.value, "unit": network.unit, "offers": [_row(offer) for offer in found]}


async def trust(database: Database, network: Network, now: float, params: dict[str, Any]) -> dict[str, Any]:
    """The `wallet-trust-payee` call: pays `provider` at `payee` from now on, and no longer at `before`.

    Raises `UsageError` unless `before` is the payee up to now and `payee` the one that the provider asks for.
    """
    try:
        provider = nip19.parse_public_key(text(params, "provider", ""))
    except WireError as error:
        raise UsageError("provider must be a public key: an npub, or 64 hex characters") from error
    pinned, offered = text(params, "before", ""), text(params, "payee", "")
    async with database.transaction() as tx:
        offer = await payee_store.trust(tx, provider, pinned=pinned, offered=offered, now=now)
    return {"network": network.value, "unit": network.unit, **_row(offer)}


def _row(offer: Offer) -> dict[str, Any]:
    return {
        "provider": nip19.npub(offer.provider),
        "before": offer.pinned,
        "payee": offer.offered,
        "paid_before_msat": int(offer.paid),
        "asked_at": offer.at,
    }
