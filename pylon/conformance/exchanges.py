"""Probes that a conforming provider answers with a result."""

import time
from collections.abc import Callable, Sequence

import orjson

from pylon.conformance import answers, wire
from pylon.conformance.bench import Bench, declined
from pylon.conformance.clauses import Clause, Outcome, Verdict, judged, skipped
from pylon.conformance.customer import Customer
from pylon.jobs.kinds import TEXT_REQUEST
from pylon.nostr.event import EventDraft

FIRST = (
    Clause.AUTHOR,
    Clause.RESULT_KIND,
    Clause.NAMES_REQUEST,
    Clause.NAMES_CUSTOMER,
    Clause.SEALED,
    Clause.VERSION,
    Clause.EXPIRATION,
    Clause.MODEL,
    Clause.USAGE,
    Clause.TIMING,
    Clause.FINISH,
    Clause.CLEAN_TEXT,
    Clause.MAX_TOKENS,
)
_PROSE = " ".join(f"Line {n} tells of spider number {n * n}, which has eight legs." for n in range(40))


async def first(bench: Bench) -> list[Verdict]:
    """The sealed exchange itself. Sets the bench's latency."""
    async with bench.customer() as customer:
        request = await customer.ask(bench.private(customer))
        sent = time.monotonic()
        await customer.until_answered(bench.answer_s)
        verdict = _answered(Clause.ANSWERED, customer)
        if verdict.outcome is not Outcome.PASS:
            return [verdict, *(skipped(clause, "there is no result to judge") for clause in FIRST)]
        heard = customer.results()[0]
        bench.latency_s = heard.at - sent
        return [verdict, *answers.judge_result(customer, request, heard.event, time.time())]


async def compressed(bench: Bench) -> list[Verdict]:
    """A payload under zstd."""
    return await _answers(bench, Clause.ZSTD, lambda c: bench.private(c, text=_PROSE, compressed=True))


async def plain_sealed(bench: Bench) -> list[Verdict]:
    """NIP-90 "Encrypted Params" and "Encrypted Output": the bare list of tags, answered by the bare text."""
    inner = (("i", wire.PROMPT, "text"), wire.ENOUGH)
    async with bench.customer() as customer:
        await customer.ask(bench.private(customer, inner=inner, bare=True))
        await customer.until_answered(bench.answer_s)
        verdict = _answered(Clause.PLAIN_SEALED, customer)
        if verdict.outcome is not Outcome.PASS:
            return [verdict]
        return [answers.judge_plain_sealed(customer, customer.results()[0].event)]


async def chat(bench: Bench) -> list[Verdict]:
    """A chat in place of a prompt."""
    messages = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello!"}]
    text = orjson.dumps([*messages, {"role": "user", "content": wire.PROMPT}]).decode()
    tags = (("param", "messages", "json"),)
    return await _answers(bench, Clause.CHAT, lambda c: bench.private(c, tags, text=text))


async def kinds(bench: Bench) -> list[Verdict]:
    """The announced kinds that no other probe asks for."""
    for kind in bench.kinds:
        if kind == bench.kind:
            continue
        verdicts = await _answers(bench, Clause.KINDS, lambda c, kind=kind: bench.private(c, kind=kind))  # type: ignore[misc]
        if verdicts[0].outcome is not Outcome.PASS:
            return verdicts
    return [judged(Clause.KINDS, None)]


async def in_the_open(bench: Bench) -> list[Verdict]:
    """The exchange with a customer that knows plain NIP-90 alone."""
    kind = TEXT_REQUEST if TEXT_REQUEST in bench.kinds else bench.kind
    rest: Sequence[Clause] = (Clause.OPEN_FORM, Clause.OPEN_ECHO)
    async with bench.customer() as customer:
        request = await customer.ask(bench.public(kind=kind))
        if not await customer.until_answered(bench.answer_s if bench.latency_s > bench.silence_s else bench.quiet_s):
            why = "open requests are not accepted here, which is the owner's choice"
            return [skipped(clause, why) for clause in (Clause.OPEN_ANSWERED, *rest)]
        verdict = _answered(Clause.OPEN_ANSWERED, customer)
        if verdict.outcome is not Outcome.PASS:
            return [verdict, *(skipped(clause, "there is no result to judge") for clause in rest)]
        return [verdict, *answers.judge_open(customer, request, customer.results()[0].event)]


async def _answers(bench: Bench, clause: Clause, make: Callable[[Customer], EventDraft]) -> list[Verdict]:
    async with bench.customer() as customer:
        await customer.ask(make(customer))
        await customer.until_answered(bench.answer_s)
        return [_answered(clause, customer)]


def _answered(clause: Clause, customer: Customer) -> Verdict:
    if customer.results():
        return judged(clause, None)
    if verdict := declined(clause, customer):
        return verdict
    code = customer.code()
    return judged(clause, "no answer arrived" if code is None else f"it was refused with {code or 'no code'}")
