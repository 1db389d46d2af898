"""A request that comes once more, over another relay: what is known of it is said there, and nothing done twice."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from pylon.jobs.feedback import Status
from pylon.jobs.kinds import RESULT_KINDS
from pylon.jobs.request import private_draft
from pylon.nostr.filter import Filter
from pylon.nostr.pool import RelayPool
from pylon.provider.intake import intake, refusals
from pylon.provider.refusal_budget import RefusalLimits
from pylon.relay.server import RelayServer
from tests.customer import Customer
from tests.provider.test_paid import paid as paid
from tests.provider.test_paid import paying
from tests.waiting import until

LATER_S = 0.3


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(intake, "COPY_S", 0.2)


@pytest.fixture
async def far():
    """Another relay."""
    async with RelayServer() as server:
        yield server


@pytest.fixture
async def there(customer, far):
    """The same customer, as far as it hears of that relay."""
    async with AsyncExitStack() as stack:
        pool = RelayPool([far.url], secret=customer.secret)
        pool.start()
        stack.push_async_callback(pool.close)
        listening = Customer(pool, customer.secret)
        stack.push_async_callback(listening.close)
        assert await pool.opened(10.0)
        yield listening


async def stored(where: Customer) -> list[str]:
    await asyncio.sleep(LATER_S)
    return [event.id for event in await where.pool.query((Filter(kinds=RESULT_KINDS),))]


async def again(there: Customer, request) -> None:
    await asyncio.sleep(LATER_S)
    await there.pool.publish(request)


async def test_the_result_that_there_is_goes_to_where_its_customer_asks_again(serve, customer, there, far):
    serving = await serve(others=(far.url,))
    request = await customer.ask(serving.public, customer.job())
    await customer.result(request)
    assert await stored(there) == []
    await again(there, request)
    await there.result(request)
    assert await stored(there) == await stored(customer)
    assert await serving.journal.counts() == {"settled": 1}


async def test_a_job_in_hand_is_told_of_and_answered_over_both_relays(serve, customer, there, far):
    serving = await serve(others=(far.url,))
    let = serving.hold()
    request = await customer.ask(serving.public, customer.job())
    await until(lambda: serving.provider._runner.running)
    await again(there, request)
    assert await there.until(lambda: there.feedback(request))
    assert there.feedback(request)[0].status is Status.PROCESSING
    assert not there.results(request)
    let.set()
    assert await there.result(request) == await customer.result(request)
    assert await stored(there) == await stored(customer)


async def test_the_invoice_that_a_job_waits_for_is_shown_there_too(paid, customer, there, far):
    serving = await paid(others=(far.url,))
    request = await customer.ask(serving.public, paying())
    [shown] = await customer.until(lambda: customer.feedback(request))
    await again(there, request)
    [shown_there] = await there.until(lambda: there.feedback(request))
    assert shown.status is shown_there.status is Status.PAYMENT_REQUIRED
    assert shown.amount == shown_there.amount


async def test_what_is_published_to_two_relays_at_once_is_answered_over_one(serve, customer, there, far, monkeypatch):
    monkeypatch.setattr(intake, "COPY_S", 5.0)
    serving = await serve(others=(far.url,))
    job = customer.job()
    draft = private_draft(job, serving.public, customer.keys, created_at=job.expiration - 60)
    request = customer.secret.sign(draft)
    await asyncio.gather(customer.pool.publish(request), there.pool.publish(request))
    first = [asyncio.create_task(where.result(request)) for where in (customer, there)]
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    assert len(await stored(customer)) + len(await stored(there)) == 1
    for result in first:
        result.cancel()


async def test_a_copy_counts_once_a_relay_and_no_key_is_answered_anew_without_end(
    serve, customer, there, far, monkeypatch
):
    monkeypatch.setattr(refusals, "AGAIN", RefusalLimits(burst=2.0, per_s=0.0))
    serving = await serve(others=(far.url,))
    requests = [await customer.ask(serving.public, customer.job(f"question {n}")) for n in range(3)]
    for request in requests:
        await customer.result(request)
    await asyncio.sleep(LATER_S)
    for request in requests:
        await there.pool.publish(request)
    await there.until(lambda: sum(bool(there.results(request)) for request in requests) >= 2)
    assert len(await stored(there)) == 2
