"""Makes the dispatcher's job, the price bounds and the request event of a caller's question."""

import math
import random
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from pylon.errors import MalformedError
from pylon.jobs.kinds import RLM_REQUEST, TEXT_REQUEST
from pylon.jobs.request import JobRequest, open_draft, private_draft
from pylon.jobs.size import MAX_EVENT_BYTES, question_bytes
from pylon.money.accounts.usage import TEMPLATE_TOKENS, Bounds
from pylon.money.msat import ZERO, Msat
from pylon.money.price import Price
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import EventDraft
from pylon.swarm.circle import Circle
from pylon.swarm.dispatch.messages import SlotJob
from pylon.swarm.job import DEFAULT_MAX_TOKENS, JobSpec
from pylon.swarm.providers.listing import Listing, Need, least_context
from pylon.swarm.settings import SwarmSettings
from pylon.swarm.spending.purse import Offer

# Typical of prose. This estimate only ranks providers.
_CHARS_PER_TOKEN = 4

# Jobs of a run have equal needs, which is seen fastest when they are the same object.
_need = lru_cache(maxsize=64)(Need)


def priced_size(spec: JobSpec) -> tuple[int, int]:
    """The tokens for which a question is priced before it is sent: of its prompt and of its answer, at the most.

    A prompt has no more tokens than bytes, plus those of the template; the sum is rounded up to a power of two, so
    that questions of similar size share a lane.
    """
    prompt_tokens = 1 << (question_bytes(spec.text, spec.system) + TEMPLATE_TOKENS).bit_length()
    return prompt_tokens, spec.max_tokens or DEFAULT_MAX_TOKENS


def dearest_quote(prices: Iterable[Price], spec: JobSpec, bid: int) -> int:
    """The most that a question can cost, in msat, by these price lists: the dearest quote that is not above the bid.

    A provider that is dearer than the bid is never asked. Where all are, it is the bid: a cheaper one may come.
    """
    size = priced_size(spec)
    quotes = (int(price.quote(*size)) for price in prices)
    return max((quote for quote in quotes if quote <= bid), default=bid)


def job_of(
    slot: int, spec: JobSpec, settings: SwarmSettings, circle: Circle, *, deadline: float, priority: int = 0
) -> SlotJob:
    """The dispatcher's job for a question. Sizes are powers of two, so that few lanes are needed."""
    characters = len(spec.prompt) + len(spec.system or "")
    if spec.messages:
        characters += sum(len(text) for _, text in spec.messages)
    prompt_tokens = 1 << (characters // _CHARS_PER_TOKEN).bit_length()
    max_tokens = spec.max_tokens or DEFAULT_MAX_TOKENS
    bid = bid_of(spec, settings)
    priced = bid > ZERO
    if priced:
        prompt_tokens, max_tokens = priced_size(spec)
    sizes = (prompt_tokens, max_tokens) if priced else (0, 0)
    context = least_context(characters, spec.max_tokens or 0)
    need = _need(
        spec.model,
        RLM_REQUEST,
        context,
        bid,
        *sizes,
        settings.network,
        circle.allow,
        circle.block,
        settings.plain,
    )
    return SlotJob(slot, need, spec.timeout, deadline, prompt_tokens, max_tokens, priority=priority)


def bid_of(spec: JobSpec, settings: SwarmSettings) -> Msat:
    """The most that this job may cost: its own bid, never above the customer's."""
    return settings.bid if spec.bid_msat is None else min(settings.bid, Msat(spec.bid_msat))


def bounds_of(spec: JobSpec) -> Bounds:
    """The bounds of a question's price that are known before its tokens are counted."""
    return Bounds(question_bytes(spec.text, spec.system), spec.max_tokens or DEFAULT_MAX_TOKENS)


def _bid(listing: Listing, offer: Offer | None) -> Msat | None:
    """The bid that the request states; None: none.

    No more than the job may cost by the price list that it was offered by. A provider that has raised its price
    meanwhile then refuses the job, instead of charging what this customer would take for fraud; and none learns how
    much more this customer would pay. One that is free, or has no price list, is told that the bid is nothing.
    """
    if not listing.priced:
        return ZERO
    return None if offer is None else min(offer.bid, offer.quote)


def request_draft(
    spec: JobSpec,
    listing: Listing,
    offer: Offer | None,
    keys: ConversationKeys,
    rng: random.Random,
    *,
    created_at: int,
    expires_at: float,
    limit: int = MAX_EVENT_BYTES,
) -> EventDraft:
    """The request to this provider, at most `limit` bytes: encrypted, or in the open form for a plain provider.

    Raises `TooLargeError`, `RequestError`, and `MalformedError` for a key that is no point of the curve or a question
    that cannot be written as JSON.
    """
    try:
        text, parameters = spec.text, spec.parameters
    except TypeError as error:
        raise MalformedError(f"this prompt cannot be written as JSON: {error}") from error
    if offer is not None and offer.quote:
        # Its answer is judged by this length, which is not every provider's own.
        parameters = replace(parameters, max_tokens=offer.bounds.max_tokens)
    job = JobRequest(
        text,
        parameters,
        kind=TEXT_REQUEST if listing.plain else RLM_REQUEST,
        bid=_bid(listing, offer),
        topup=None if offer is None else offer.topup,
        account_seen=None if offer is None else offer.seen,
        expiration=math.ceil(expires_at),
    )
    if listing.plain:
        salt = f"{rng.getrandbits(64):016x}"
        return open_draft(job, listing.provider, salt=salt, created_at=created_at, limit=limit)
    return private_draft(job, listing.provider, keys, created_at=created_at, limit=limit)
