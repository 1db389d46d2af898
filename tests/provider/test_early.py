"""A cancellation that comes before its request counts all the same."""

import time

from pylon.jobs.cancel import cancel_draft
from pylon.jobs.codes import ErrorCode
from pylon.jobs.kinds import RLM_REQUEST
from pylon.jobs.request import private_draft
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.nostr.pool_subscription import Received
from pylon.provider.rows import JobState


def made(customer, provider: str, text: str = "question"):
    now = int(time.time())
    request = customer.secret.sign(private_draft(customer.job(text), provider, customer.keys, created_at=now))
    return request, cancel_draft((request.id,), RLM_REQUEST, provider, created_at=now)


async def take(serving, *events) -> None:
    for event in events:
        await serving.provider._intake._take([Received(event, "")], live=True)


async def test_a_request_that_was_taken_back_before_it_came_is_not_done(serve, customer):
    serving = await serve(delay_s=30.0)
    request, cancellation = made(customer, serving.public)
    await take(serving, customer.secret.sign(cancellation), request, request)
    assert await serving.journal.counts() == {}


async def test_where_it_might_have_cost_something_its_customer_hears_that_it_does_not(serve, customer):
    serving = await serve(delay_s=30.0, price=Price(Msat(1_000)))
    request, cancellation = made(customer, serving.public)
    await take(serving, customer.secret.sign(cancellation), request)
    assert (await customer.refusal(request)).code is ErrorCode.CANCELLED
    assert await serving.journal.counts() == {}


async def test_nobody_takes_back_what_another_will_ask(serve, customer, another_customer):
    serving = await serve(delay_s=30.0)
    request, cancellation = made(customer, serving.public)
    await take(serving, (await another_customer()).secret.sign(cancellation), request)
    assert await serving.journal.counts() == {JobState.QUEUED: 1}
