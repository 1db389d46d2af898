"""Probes that a conforming provider refuses, with the right code or in silence."""

import asyncio
import base64
import secrets
import time
from collections.abc import Callable, Sequence

import orjson
import zstandard

from pylon.conformance import wire
from pylon.conformance.bench import Bench, declined
from pylon.conformance.clauses import Clause, Verdict, judged, skipped
from pylon.conformance.customer import Customer
from pylon.errors import RelayError
from pylon.jobs.kinds import SCHEMA
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey

# A kind that NIP-90's registry gives to another trade: making images.
OTHER_KIND = 5_100
# Requests sent around their own deadline, so many milliseconds apart, when the relay takes none afterwards.
VOLLEY = 48
VOLLEY_STEP_S = 0.002
VOLLEYS = 3


async def unknown_param(bench: Bench) -> list[Verdict]:
    """A parameter that nobody defined."""
    return await _refused(
        bench,
        Clause.UNKNOWN_PARAM,
        "unsupported_param",
        lambda c: bench.private(c, (("param", f"x-{secrets.token_hex(4)}", "1"),)),
    )


async def unknown_model(bench: Bench) -> list[Verdict]:
    """A model that nobody has."""
    tag = ("param", "model", f"no-such-model-{secrets.token_hex(4)}")
    return await _refused(bench, Clause.UNKNOWN_MODEL, "unsupported_model", lambda c: bench.private(c, (tag,)))


async def fetching_input(bench: Bench) -> list[Verdict]:
    """An input that stands somewhere else."""
    inner = (("i", "https://example.com/prompt.txt", "url"), wire.ENOUGH)
    return await _refused(
        bench, Clause.FETCHING_INPUT, "unsupported_param", lambda c: bench.private(c, inner=inner, text="")
    )


async def undecryptable(bench: Bench) -> list[Verdict]:
    """Sealed for a key that is not the provider's."""
    other = SecretKey.generate().public
    return await _refused(bench, Clause.UNDECRYPTABLE, "undecryptable", lambda c: bench.private(c, sealed_for=other))


async def bomb(bench: Bench) -> list[Verdict]:
    """A few hundred bytes that say a megabyte."""

    def make(customer: Customer) -> EventDraft:
        plain = orjson.dumps({"text": "a" * 1_000_000, "tags": [wire.INPUT, wire.ENOUGH]})
        content = customer.keys.encrypt(bench.provider, base64.b64encode(zstandard.compress(plain)))
        tags = (("p", bench.provider), ("encrypted",), ("encoding", "zstd"), ("v", SCHEMA))
        return EventDraft(bench.kind, content, tags, int(time.time()))

    return await _refused(bench, Clause.BOMB, "too_large", make)


async def unserved_kind(bench: Bench) -> list[Verdict]:
    """A kind that is not announced: silence will do, since who does not serve it need not listen for it."""
    async with bench.customer() as customer:
        await customer.ask(bench.private(customer, kind=OTHER_KIND))
        await customer.until_answered(bench.quiet_s)
        if customer.results():
            return [judged(Clause.UNSERVED_KIND, f"a job of kind {OTHER_KIND} was answered with a result")]
        code = customer.code()
        wrong = None if code in (None, "unsupported_kind") else f"it was refused with {code or 'no code'}"
        return [judged(Clause.UNSERVED_KIND, wrong)]


async def malformed(bench: Bench) -> list[Verdict]:
    """A value out of range, from a key never seen before."""
    inner = (wire.INPUT, ("param", "max_tokens", "many"))
    return await _silent(bench, Clause.MALFORMED, lambda c: bench.private(c, inner=inner))


async def not_for_us(bench: Bench) -> list[Verdict]:
    """A readable request that names another provider."""
    other = SecretKey.generate().public
    return await _silent(bench, Clause.NOT_FOR_US, lambda _: bench.public(provider=other))


async def expired(bench: Bench) -> list[Verdict]:
    """A request that comes after its deadline.

    Most relays take none (NIP-40). Then requests are sent in a row around their common deadline: the last of those
    that the relay still takes reach the provider after it.
    """
    async with bench.customer() as customer:
        now = int(time.time())
        try:
            await customer.ask(bench.private(customer, created_at=now - 60, expires_at=now - 30))
        except RelayError:
            pass
        else:
            await customer.until_answered(bench.refusal_s)
            if customer.results():
                return [judged(Clause.EXPIRED, "it was answered with a result")]
            if (code := customer.code()) is not None:
                return [judged(Clause.EXPIRED, None if code == "expired" else f"it was refused with {code}")]
        for _ in range(VOLLEYS):
            await _volley(bench, customer)
            await customer.until(lambda: _said_expired(customer), 1.0)
            if _said_expired(customer):
                return [judged(Clause.EXPIRED, None)]
        return [skipped(Clause.EXPIRED, "the relay accepts no expired requests, and none expired on the way")]


def _said_expired(customer: Customer) -> bool:
    return ("error", "expired") in [status[:2] for status in customer.statuses()]


async def _volley(bench: Bench, customer: Customer) -> None:
    began = time.monotonic()
    # What an answered publication takes, the way to the relay is half of.
    await _try(customer, bench.private(customer, expires_at=int(time.time()) - 1))
    ahead = (time.monotonic() - began) / 2
    deadline = int(time.time()) + 2
    drafts = [bench.private(customer, expires_at=deadline) for _ in range(VOLLEY)]
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


async def _refused(bench: Bench, clause: Clause, code: str, make: Callable[[Customer], EventDraft]) -> list[Verdict]:
    async with bench.customer() as customer:
        await customer.ask(make(customer))
        await customer.until_answered(bench.refusal_s)
        if customer.results():
            return [judged(clause, "it was answered with a result")]
        if verdict := declined(clause, customer):
            return [verdict]
        said = customer.code()
        if said is None:
            return [judged(clause, f"{code} was expected, but nothing arrived")]
        return [judged(clause, None if said == code else f"it was refused with {said or 'no code'}, not {code}")]


async def _silent(bench: Bench, clause: Clause, make: Callable[[Customer], EventDraft]) -> list[Verdict]:
    async with bench.customer() as customer:
        await customer.ask(make(customer))
        await customer.until(lambda: customer.results() or customer.feedback(), bench.quiet_s)
        heard: Sequence[object] = customer.results() or customer.feedback()
        return [judged(clause, "it was answered" if heard else None)]
