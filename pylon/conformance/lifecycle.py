"""Probes of a job's life cycle: a request that comes twice, is cancelled, or is cancelled by a stranger."""

import time

from pylon.conformance import wire
from pylon.conformance.clauses import Clause, Verdict, judged, skipped
from pylon.conformance.context import ProbeContext, declined
from pylon.conformance.customer import Customer
from pylon.jobs.kinds import DELETION, SCHEMA
from pylon.nostr.event import Event, EventDraft, Tag

# A result that is already on its way when the cancellation arrives does not count.
GRACE_S = 1.0
LONG: Tag = ("param", "max_tokens", "512")
_LONG_PROMPT = "Tell a long story about a spider, in as many words as you can."


async def once(context: ProbeContext) -> list[Verdict]:
    """A request sent to every relay, and sent again after its result, has one result."""
    async with context.customer() as customer:
        request = await customer.ask(context.private(customer))
        await customer.until_answered(context.answer_s)
        if not customer.results():
            return [declined(Clause.ONCE, customer) or skipped(Clause.ONCE, "there was no first result")]
        await customer.send(request)
        await customer.until(lambda: _of_provider(customer) > 1, context.quiet_s)
        count = _of_provider(customer)
        return [judged(Clause.ONCE, f"it had {count} different results" if count > 1 else None)]


async def cancel(context: ProbeContext) -> list[Verdict]:
    """A job that is cancelled as soon as the relay has its request brings no result."""
    async with context.customer() as customer:
        request = await customer.ask(_long_job(context, customer))
        await customer.send(customer.secret.sign(_cancellation(request, context.provider)))
        cancelled_at = time.monotonic()
        await customer.until(lambda: customer.results(), context.quiet_s + GRACE_S)
        results = customer.results()
        if not results:
            refused = declined(Clause.CANCEL, customer)
            return [refused or judged(Clause.CANCEL, None)]
        if results[0].at - cancelled_at < GRACE_S:
            return [skipped(Clause.CANCEL, "the result came before the cancellation could have stopped it")]
        return [judged(Clause.CANCEL, f"a result came {results[0].at - cancelled_at:.1f} s after the cancellation")]


async def foreign_cancel(context: ProbeContext) -> list[Verdict]:
    """A job that another key tries to cancel is answered all the same."""
    async with context.customer() as customer, context.customer() as other:
        request = await customer.ask(_long_job(context, customer))
        await other.send(other.secret.sign(_cancellation(request, context.provider)))
        await customer.until_answered(context.answer_s)
        if customer.results():
            return [judged(Clause.FOREIGN_CANCEL, None)]
        refused = declined(Clause.FOREIGN_CANCEL, customer)
        return [refused or judged(Clause.FOREIGN_CANCEL, "no result came")]


def _long_job(context: ProbeContext, customer: Customer) -> EventDraft:
    return context.private(customer, inner=(wire.INPUT, LONG), text=_LONG_PROMPT)


def _cancellation(request: Event, provider: str) -> EventDraft:
    tags = (("e", request.id), ("k", str(request.kind)), ("p", provider), ("v", SCHEMA))
    return EventDraft(DELETION, "", tags, int(time.time()))


def _of_provider(customer: Customer) -> int:
    return len({heard.event.id for heard in customer.provider_results()})
