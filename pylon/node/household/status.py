"""The state of a household's members, from what each says in its heartbeats."""

import asyncio
from typing import Any

from pylon.node.household.members import Household
from pylon.node.providers import resting
from pylon.nostr.bech32 import nip19
from pylon.swarm.client import SwarmClient
from pylon.swarm.providers.listing import Listing

# The heartbeat of a live member is heard within a moment of listening. One that is not heard by then is away.
HEARD_WITHIN_S = 3.0
_LOOK_S = 0.1


async def members(household: Household, own: str, swarm: SwarmClient) -> list[dict[str, Any]]:
    """A row for each member, sorted by name, as in `pylon status --all --json`. `own` is this machine's key."""
    await swarm.caught_up()
    for _ in range(round(HEARD_WITHIN_S / _LOOK_S)):
        if all(swarm.directory.get(key) is not None for key in household.members):
            break
        await asyncio.sleep(_LOOK_S)
    rows = [
        _row(key, name, household, own, swarm.directory.get(key)) | {"rests": resting(swarm, key)}
        for key, name in household.members.items()
    ]
    return sorted(rows, key=lambda row: (str(row["name"]), str(row["npub"])))


def _row(key: str, name: str, household: Household, own: str, listing: Listing | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": name,
        "npub": nip19.npub(key),
        "head": key == household.head,
        "here": key == own,
        "alive": listing is not None,
    }
    return row | (_said(listing) if listing is not None else {})


def _said(listing: Listing) -> dict[str, Any]:
    return {
        "model": listing.models[0].id if listing.models else "",
        "slots": listing.slots,
        "slots_free": listing.slots_free,
        "queue_s": listing.queue_s,
        "tokens_in_per_s": listing.tokens_in_per_s,
        "tokens_out_per_s": listing.tokens_out_per_s,
        "paused": listing.paused,
        "loading": listing.loading,
    }
