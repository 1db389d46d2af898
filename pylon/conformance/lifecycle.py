"""Probes about what happens to a job over time: it comes twice, it is cancelled, a stranger cancels it."""

import time

from pylon.conformance import wire
from pylon.conformance.bench import Bench, declined
from pylon.conformance.clauses import Clause, Verdict, judged, skipped
from pylon.conformance.customer import Customer
from pylon.jobs.kinds import DELETION, SCHEMA
from pylon.nostr.event import Event, EventDraft, Tag

# What is on its way when a cancellation arrives cannot be called back.
GRACE_S = 1.0
LONG: Tag = ("param", "max_tokens", "512")
_LONG_PROMPT = "Tell a long story about a spider, in as many words as you can."


async def once(bench: Bench) -> list[Verdict]:
    """The same event on every relay, and again after its result."""
    async with bench.customer() as customer:
        request = await customer.ask(bench.private(customer))
        await customer.until_answered(bench.answer_s)
        if not customer.results():
            return [declined(Clause.ONCE, customer) or skipped(Clause.ONCE, "there was no first result")]
        await customer.send(request)
        await customer.until(lambda: _of_provider(customer) > 1, bench.quiet_s)
        count = _of_provider(customer)
        return [judged(Clause.ONCE, f"it had {count} different results" if count > 1 else None)]


async def cancel(bench: Bench) -> list[Verdict]:
    """A job that is cancelled as soon as the relay has it."""
    async with bench.customer() as customer:
        request = await customer.ask(_long_job(bench, customer))
        await customer.send(customer.secret.sign(_cancellation(request, bench.provider)))
        cancelled_at = time.monotonic()
        await customer.until(lambda: customer.results(), bench.quiet_s + GRACE_S)
        results = customer.results()
        if not results:
            refused = declined(Clause.CANCEL, customer)
            return [refused or judged(Clause.CANCEL, None)]
        if results[0].at - cancelled_at < GRACE_S:
            return [skipped(Clause.CANCEL, "the result came before the cancellation could have stopped it")]
        return [judged(Clause.CANCEL, f"a result came {results[0].at - cancelled_at:.1f} s after the cancellation")]


async def foreign_cancel(bench: Bench) -> list[Verdict]:
    """A job that another key wants cancelled."""
    async with bench.customer() as customer, bench.customer() as other:
        request = await customer.ask(_long_job(bench, customer))
        await other.send(other.secret.sign(_cancellation(request, bench.provider)))
        await customer.until_answered(bench.answer_s)
        if customer.results():
            return [judged(Clause.FOREIGN_CANCEL, None)]
        refused = declined(Clause.FOREIGN_CANCEL, customer)
        return [refused or judged(Clause.FOREIGN_CANCEL, "no result came")]


def _long_job(bench: Bench, customer: Customer) -> EventDraft:
    return bench.private(customer, inner=(wire.INPUT, LONG), text=_LONG_PROMPT)


def _cancellation(request: Event, provider: str) -> EventDraft:
    tags = (("e", request.id), ("k", str(request.kind)), ("p", provider), ("v", SCHEMA))
    return EventDraft(DELETION, "", tags, int(time.time()))


def _of_provider(customer: Customer) -> int:
    return len({heard.event.id for heard in customer.results() if heard.event.pubkey == customer.provider})
