"""Probes that a conforming provider answers with a result."""

import time
from collections.abc import Callable, Sequence

import orjson

from pylon.conformance import answers, wire
from pylon.conformance.clauses import Clause, ClauseOutcome, Verdict, judged, skipped
from pylon.conformance.context import ProbeContext, declined
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


async def first(context: ProbeContext) -> list[Verdict]:
    """A request in the private form; judges its result, and sets the context's latency."""
    async with context.customer() as customer:
        request = await customer.ask(context.private(customer))
        sent = time.monotonic()
        await customer.until_answered(context.answer_s)
        verdict = _answered(Clause.ANSWERED, customer)
        if verdict.outcome is not ClauseOutcome.PASS:
            return [verdict, *(skipped(clause, "there is no result to judge") for clause in FIRST)]
        heard = customer.results()[0]
        context.latency_s = heard.at - sent
        return [verdict, *answers.judge_result(customer, request, heard.event, time.time())]


async def compressed(context: ProbeContext) -> list[Verdict]:
    """A request whose payload is compressed with zstd."""
    return await _answers(context, Clause.ZSTD, lambda c: context.private(c, text=_PROSE, compressed=True))


async def plain_sealed(context: ProbeContext) -> list[Verdict]:
    """NIP-90 "Encrypted Params" and "Encrypted Output": the bare list of tags, answered by the bare text."""
    inner = (("i", wire.PROMPT, "text"), wire.ENOUGH)
    async with context.customer() as customer:
        await customer.ask(context.private(customer, inner=inner, bare=True))
        await customer.until_answered(context.answer_s)
        verdict = _answered(Clause.PLAIN_SEALED, customer)
        if verdict.outcome is not ClauseOutcome.PASS:
            return [verdict]
        return [answers.judge_plain_sealed(customer, customer.results()[0].event)]


async def chat(context: ProbeContext) -> list[Verdict]:
    """A request with a chat array in place of a prompt."""
    messages = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello!"}]
    text = orjson.dumps([*messages, {"role": "user", "content": wire.PROMPT}]).decode()
    tags = (("param", "messages", "json"),)
    return await _answers(context, Clause.CHAT, lambda c: context.private(c, tags, text=text))


async def kinds(context: ProbeContext) -> list[Verdict]:
    """A request of each announced kind that the other probes do not use."""
    for kind in context.kinds:
        if kind == context.kind:
            continue
        verdicts = await _answers(context, Clause.KINDS, lambda c, kind=kind: context.private(c, kind=kind))  # type: ignore[misc]
        if verdicts[0].outcome is not ClauseOutcome.PASS:
            return verdicts
    return [judged(Clause.KINDS, None)]


async def in_the_open(context: ProbeContext) -> list[Verdict]:
    """A request in the open form, as a customer sends it that knows only plain NIP-90."""
    kind = TEXT_REQUEST if TEXT_REQUEST in context.kinds else context.kind
    rest: Sequence[Clause] = (Clause.OPEN_FORM, Clause.OPEN_ECHO)
    async with context.customer() as customer:
        request = await customer.ask(context.public(kind=kind))
        if not await customer.until_answered(
            context.answer_s if context.latency_s > context.silence_s else context.quiet_s
        ):
            why = "open requests are not accepted here, which is the owner's choice"
            return [skipped(clause, why) for clause in (Clause.OPEN_ANSWERED, *rest)]
        verdict = _answered(Clause.OPEN_ANSWERED, customer)
        if verdict.outcome is not ClauseOutcome.PASS:
            return [verdict, *(skipped(clause, "there is no result to judge") for clause in rest)]
        return [verdict, *answers.judge_open(customer, request, customer.results()[0].event)]


async def _answers(context: ProbeContext, clause: Clause, make: Callable[[Customer], EventDraft]) -> list[Verdict]:
    async with context.customer() as customer:
        await customer.ask(make(customer))
        await customer.until_answered(context.answer_s)
        return [_answered(clause, customer)]


def _answered(clause: Clause, customer: Customer) -> Verdict:
    if customer.results():
        return judged(clause, None)
    if verdict := declined(clause, customer):
        return verdict
    code = customer.code()
    return judged(clause, "no answer arrived" if code is None else f"it was refused with {code or 'no code'}")
