"""The calls `providers` and `why-provider`: who is alive, and what speaks for and against a provider.

They ask no provider. They use announcements, heartbeats, and the reputation from earlier jobs.
"""

import asyncio
import dataclasses
import heapq
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from pylon.errors import UsageError, WireError
from pylon.jobs.announcement import HOUSEHOLD
from pylon.jobs.size import MAX_EVENT_BYTES
from pylon.node.calls.params import flag, number, text, whole
from pylon.nostr.bech32 import nip19
from pylon.nostr.pool import RelayPool
from pylon.sections import CustomerSection
from pylon.swarm.checks.reputation import why
from pylon.swarm.client import SwarmClient
from pylon.swarm.job import JobSpec
from pylon.swarm.providers.listing import Listing

# Seconds to listen for providers, unless a call names another time.
LISTEN_S = 2.0
# So many providers are described in one turn of the event loop: some milliseconds, and a customer may know 20,000.
_AT_ONCE = 200
# The most keys in the error for a name that several providers have.
_TOLD = 8
_CAN = "can take jobs"


async def providers(
    client: SwarmClient,
    pool: RelayPool,
    settings: CustomerSection,
    params: dict[str, Any],
    names: Mapping[str, str],
) -> dict[str, Any]:
    """The `providers` call: who is alive after listening for `wait_s` seconds. `names` are the names of the
    household's members by public key; they override the names that providers give themselves.

    Filters: `model` (an id or `sha256:…`), `free`, `most_msat` (highest base price), `network`, `context` (least
    window in tokens), `trust` (least trust, 0 to 1). With `limit` only so many of those that match are described, the
    most trusted first. Raises `UsageError`, and `UnreachableError` if it is to listen and no relay is reached.
    """
    wait_s = number(params, "wait_s", LISTEN_S)
    wanted = _Wanted(
        model=text(params, "model", None),
        free=flag(params, "free"),
        most_msat=whole(params, "most_msat", None),
        network=text(params, "network", None),
        context=whole(params, "context", 0),
        trust=number(params, "trust", 0.0),
    )
    limit = whole(params, "limit", None)
    if wait_s:
        # Without a relay nobody can be heard, which would look as if nobody were alive.
        await pool.wait_open(settings.patience_s)
    caught_up = await client.caught_up(wait_s)
    if not len(client.directory) and wait_s:
        await asyncio.sleep(wait_s)
    # A copy: providers come and go between two turns.
    matching = [one async for one in _in_turns(list(client.directory)) if _shown(client, one, wanted)]
    told = matching if limit is None else await _most_trusted(client, matching, limit)
    return {
        "providers": [_listing(client, listing, names) async for listing in _in_turns(told)],
        "matching": len(matching),
        "heard_of": client.directory.known,
        "caught_up": caught_up,
        "bid_msat": int(client.settings.bid),
        # A request may go over any of the relays, so this is what the strictest of them accepts.
        "event_bytes": min(pool.event_bytes([url], most=MAX_EVENT_BYTES) for url in pool.urls),
    }


async def _in_turns(listings: Sequence[Listing]) -> AsyncIterator[Listing]:
    """The listings, with turns for others in between."""
    for told, listing in enumerate(listings, 1):
        yield listing
        if told % _AT_ONCE == 0:
            await asyncio.sleep(0)


async def _most_trusted(client: SwarmClient, listings: Sequence[Listing], most: int) -> list[Listing]:
    """Up to `most` of these, in an order that stays the same as long as trust does."""
    trusted = [(-client.reputation.trust(one.provider), one.provider, one) async for one in _in_turns(listings)]
    return [one for _, _, one in heapq.nsmallest(most, trusted)]


@dataclasses.dataclass(frozen=True, slots=True)
class _Wanted:
    """The filters of `providers`."""

    model: str | None
    free: bool
    most_msat: int | None
    network: str | None
    context: int
    trust: float


def _shown(client: SwarmClient, listing: Listing, wanted: _Wanted) -> bool:
    model = listing.model(wanted.model)
    price = listing.price
    return (
        (wanted.model is None or model is not None)
        and (listing.priced or not (wanted.free or wanted.most_msat is not None or wanted.network is not None))
        and (not wanted.free or price.is_free)
        and (wanted.most_msat is None or int(price.base_msat) <= wanted.most_msat)
        and (wanted.network is None or price.is_free or listing.network == wanted.network)
        and (model is None or not model.context or model.context >= wanted.context)
        and client.reputation.trust(listing.provider) >= wanted.trust
    )


async def why_provider(
    client: SwarmClient, now: float, params: dict[str, Any], members: Mapping[str, str]
) -> dict[str, Any]:
    """The `why-provider` call: what speaks for and against the provider `key`. That is an npub or hex; for a live
    provider it may be its name, or the beginning of its npub. `members` are the names of the household's members by
    public key. `now` is in Unix seconds. Raises `UsageError`."""
    model, named = text(params, "model", None), text(params, "key", "")
    await client.caught_up(number(params, "wait_s", LISTEN_S))
    key = _key_of(named, client, members)
    listing = client.directory.get(key)
    job = JobSpec(model=model)
    able = "is not alive" if listing is None else client.why_not(job, listing) or _CAN
    record, rests = client.reputation.get(key), resting(client, key)
    if rests is not None and able == _CAN:
        able = "is avoided for a while"
    return {
        "provider": nip19.npub(key),
        "now": able,
        "rests": rests,
        "own": key in client.circle.own,
        "trust": round(client.reputation.trust(key), 3),
        "out": client.reputation.is_out(key, now),
        "why": why(record, now, own=key in client.circle.own),
    }


def _key_of(named: str, client: SwarmClient, members: Mapping[str, str]) -> str:
    try:
        return nip19.public_key_among(named, (listing.provider for listing in client.directory))
    except WireError as error:
        name = named.strip().casefold()
        # Members first: the head has admitted them, while strangers can give themselves any name.
        found = [key for key, called in members.items() if called.casefold() == name] or [
            listing.provider for listing in client.directory if listing.name and listing.name.casefold() == name
        ]
        if len(found) == 1:
            return found[0]
        hint = "`pylon providers` lists the providers. Give a name, a key, or the beginning of exactly one npub."
        if found:
            keys = ", ".join(map(nip19.npub, found[:_TOLD]))
            raise UsageError(f"{len(found)} providers have that name: {keys}", hint=hint) from error
        why_no_key = f": {error}" if name.startswith(("npub1", "nprofile1", "nsec1")) else ", and it is not a key"
        raise UsageError(f"no live provider matches{why_no_key}", hint=hint) from error


def resting(client: SwarmClient, provider: str) -> dict[str, Any] | None:
    """Until when (`ends_at`, Unix seconds) and `why` a provider is not asked; None if it may be asked."""
    rest = client.rest_of(provider)
    return None if rest is None else {"ends_at": round(rest[0], 1), "why": rest[1]}


def _state(listing: Listing, *, own: bool, rests: bool) -> str:
    """Whether a provider takes jobs of ours now, in words."""
    if listing.network == HOUSEHOLD and not own:
        return "serves only its household"
    if listing.loading:
        return "loading"
    if listing.paused:
        return f"paused ({listing.paused})"
    return "resting" if rests else "ready"


def _listing(client: SwarmClient, listing: Listing, names: Mapping[str, str]) -> dict[str, Any]:
    rests, own = resting(client, listing.provider), listing.provider in client.circle.own
    return {
        "provider": nip19.npub(listing.provider),
        "name": names.get(listing.provider) or listing.name,
        "own": own,
        "models": [model.id for model in listing.models],
        "weights": [model.sha256 for model in listing.models],
        "contexts": [model.context for model in listing.models],
        "kinds": sorted(listing.kinds),
        "slots": listing.slots,
        "slots_free": listing.slots_free,
        "queue_s": listing.queue_s,
        "tokens_in_per_s": listing.tokens_in_per_s,
        "tokens_out_per_s": listing.tokens_out_per_s,
        "price": listing.price.rates() if listing.priced else None,
        "network": listing.network or None,
        "plain": listing.plain,
        "state": _state(listing, own=own, rests=rests is not None),
        "rests": rests,
        "trust": round(client.reputation.trust(listing.provider), 3),
        "expires_at": client.directory.alive_until(listing.provider),
    }
