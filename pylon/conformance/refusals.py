"""Probes that a conforming provider refuses: with the right code, or by silence."""

import asyncio
import base64
import secrets
import time
from collections.abc import Callable, Sequence

import orjson
import zstandard

from pylon.conformance import wire
from pylon.conformance.clauses import Clause, Verdict, judged, skipped
from pylon.conformance.context import ProbeContext, declined
from pylon.conformance.customer import Customer
from pylon.errors import RelayError
from pylon.jobs.kinds import SCHEMA
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey

# A kind that NIP-90's registry assigns to other work: generating images.
OTHER_KIND = 5_100
# The age of a request that is too old whatever its deadline, in seconds.
STALE_S = 1_200
# Requests sent around their common deadline, and the seconds between them.
VOLLEY = 48
VOLLEY_STEP_S = 0.002
VOLLEYS = 3


async def unknown_param(context: ProbeContext) -> list[Verdict]:
    """A request with an undefined parameter."""
    return await _refused(
        context,
        Clause.UNKNOWN_PARAM,
        "unsupported_param",
        lambda c: context.private(c, (("param", f"x-{secrets.token_hex(4)}", "1"),)),
    )


async def unknown_model(context: ProbeContext) -> list[Verdict]:
    """A request for a model that nobody has."""
    tag = ("param", "model", f"no-such-model-{secrets.token_hex(4)}")
    return await _refused(context, Clause.UNKNOWN_MODEL, "unsupported_model", lambda c: context.private(c, (tag,)))


async def fetching_input(context: ProbeContext) -> list[Verdict]:
    """A request whose input is a URL."""
    inner = (("i", "https://example.com/prompt.txt", "url"), wire.ENOUGH)
    return await _refused(
        context, Clause.FETCHING_INPUT, "unsupported_param", lambda c: context.private(c, inner=inner, text="")
    )


async def undecryptable(context: ProbeContext) -> list[Verdict]:
    """A request encrypted for another key than the provider's."""
    other = SecretKey.generate().public
    return await _refused(
        context, Clause.UNDECRYPTABLE, "undecryptable", lambda c: context.private(c, sealed_for=other)
    )


async def bomb(context: ProbeContext) -> list[Verdict]:
    """A request of a few hundred bytes that expands to a megabyte (a decompression bomb)."""

    def make(customer: Customer) -> EventDraft:
        plain = orjson.dumps({"text": "a" * 1_000_000, "tags": [wire.INPUT, wire.ENOUGH]})
        content = customer.keys.encrypt(context.provider, base64.b64encode(zstandard.compress(plain)))
        tags = (("p", context.provider), ("encrypted",), ("encoding", "zstd"), ("v", SCHEMA))
        return EventDraft(context.kind, content, tags, int(time.time()))

    return await _refused(context, Clause.BOMB, "too_large", make)


async def unserved_kind(context: ProbeContext) -> list[Verdict]:
    """A request of a kind that is not announced. Silence is right, too: the provider need not listen for it."""
    async with context.customer() as customer:
        await customer.ask(context.private(customer, kind=OTHER_KIND))
        await customer.until_provider_answered(context.quiet_s)
        if customer.provider_results():
            return [judged(Clause.UNSERVED_KIND, f"a job of kind {OTHER_KIND} was answered with a result")]
        if customer.billed():
            return [judged(Clause.UNSERVED_KIND, f"payment was asked for a job of kind {OTHER_KIND}")]
        code = customer.code()
        wrong = None if code in (None, "unsupported_kind") else f"it was refused with {code or 'no code'}"
        return [judged(Clause.UNSERVED_KIND, wrong)]


async def malformed(context: ProbeContext) -> list[Verdict]:
    """A request with an invalid value, from a new key, is met with silence."""
    inner = (wire.INPUT, ("param", "max_tokens", "many"))
    return await _silent(context, Clause.MALFORMED, lambda c: context.private(c, inner=inner))


async def not_for_us(context: ProbeContext) -> list[Verdict]:
    """A request in the open form that is addressed to another provider."""
    other = SecretKey.generate().public
    return await _silent(context, Clause.NOT_FOR_US, lambda _: context.public(provider=other))


async def expired(context: ProbeContext) -> list[Verdict]:
    """A request that comes after its deadline.

    Most relays take none of these (NIP-40). Then many requests are sent around their common deadline, so that the
    last ones that the relay still takes reach the provider after it.
    """
    async with context.customer() as customer:
        now = int(time.time())
        try:
            await customer.ask(context.private(customer, created_at=now - 60, expires_at=now - 30))
        except RelayError:
            pass
        else:
            await customer.until_provider_answered(context.refusal_s)
            if customer.provider_results():
                return [judged(Clause.EXPIRED, "it was answered with a result")]
            if customer.billed():
                return [judged(Clause.EXPIRED, "payment was asked for it")]
            if (code := customer.code()) is not None:
                return [judged(Clause.EXPIRED, None if code == "expired" else f"it was refused with {code}")]
        for _ in range(VOLLEYS):
            await _volley(context, customer)
            await customer.until(lambda: _said_expired(customer), 1.0)
            if _said_expired(customer):
                return [judged(Clause.EXPIRED, None)]
        return [skipped(Clause.EXPIRED, "the relay accepts no expired requests, and none expired on the way")]


async def stale(context: ProbeContext) -> list[Verdict]:
    """A request of long ago whose deadline is still to come. Silence is right, too: the provider need not read it."""
    async with context.customer() as customer:
        now = int(time.time())
        try:
            await customer.ask(context.private(customer, created_at=now - STALE_S, expires_at=now + 60))
        except RelayError:
            return [skipped(Clause.STALE, "the relay accepts no requests of that age")]
        await customer.until_provider_answered(context.quiet_s)
        done = "it was answered with a result" if customer.provider_results() else None
        return [judged(Clause.STALE, "payment was asked for it" if customer.billed() else done)]


def _said_expired(customer: Customer) -> bool:
    return ("error", "expired") in [status[:2] for status in customer.statuses()]


async def _volley(context: ProbeContext, customer: Customer) -> None:
    began = time.monotonic()
    # Half of the time of an acknowledged publication is the way to the relay.
    await _try(customer, context.private(customer, expires_at=int(time.time()) - 1))
    ahead = (time.monotonic() - began) / 2
    deadline = int(time.time()) + 2
    drafts = [context.private(customer, expires_at=deadline) for _ in range(VOLLEY)]
    start = deadline - ahead - VOLLEY * VOLLEY_STEP_S * 0.75
    sends: list[asyncio.Task[None]] = []
    for number, draft in enumerate(drafts):
        await asyncio.sleep(max(0.0, start + number * VOLLEY_STEP_S - time.time()))
        sends.append(asyncio.create_task(_try(customer, draft)))
    await asyncio.gather(*sends)


async def _try(customer: Customer, draft: EventDraft) -> None:
    try:
        await customer.ask(draft)
    except RelayError:
        return


async def _refused(
    context: ProbeContext, clause: Clause, code: str, make: Callable[[Customer], EventDraft]
) -> list[Verdict]:
    async with context.customer() as customer:
        await customer.ask(make(customer))
        await customer.until_provider_answered(context.refusal_s)
        if customer.provider_results():
            return [judged(clause, "it was answered with a result")]
        if verdict := declined(clause, customer):
            return [verdict]
        said = customer.code()
        if said is None:
            return [judged(clause, f"{code} was expected, but nothing arrived")]
        return [judged(clause, None if said == code else f"it was refused with {said or 'no code'}, not {code}")]


async def _silent(context: ProbeContext, clause: Clause, make: Callable[[Customer], EventDraft]) -> list[Verdict]:
    async with context.customer() as customer:
        await customer.ask(make(customer))
        await customer.until(lambda: customer.provider_results() or customer.feedback(), context.quiet_s)
        heard: Sequence[object] = customer.provider_results() or customer.feedback()
        return [judged(clause, "it was answered" if heard else None)]
