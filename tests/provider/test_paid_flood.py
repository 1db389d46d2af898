"""A flood of fresh keys at a provider that charges, over a relay of its own process: what its customers see.

Some keys of the flood have their trial, and the others are asked for payments that never come.
"""

import asyncio

import pytest

from pylon.money.msat import Msat
from pylon.provider.payments.settlement import CreditPolicy
from pylon.provider.settings import ProviderSettings
from tests.customer import Customer
from tests.provider.test_flood import JOB_S, KEYS, SLOTS, flood, relay, requests
from tests.provider.test_paid import FEES, asked, clean, paid, paying

__all__ = ["paid", "relay"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


async def pays(wallet, customer: Customer, request) -> None:
    await wallet.pay((await asked(customer, request)).bolt11, fee_limit=FEES)


async def count(serving, rows: str) -> int:
    return (await serving.database.fetch_all(f"SELECT count(*) FROM {rows}"))[0][0]


async def test_in_a_flood_of_fresh_keys_whoever_has_paid_is_served_and_may_pay_again(
    relay, paid, bank, another_customer
):
    serving = await paid(credit=CreditPolicy(), delay_s=JOB_S, slots=SLOTS)
    rich, returning = await another_customer(), await another_customer()
    wallet = await bank.wallet("customers", 1_000)
    for customer, topup in ((rich, Msat(50_000)), (returning, None)):
        # Its trial, which it pays with its second job.
        await customer.result(await customer.ask(serving.public, paying("first")))
        second = await customer.ask(serving.public, paying("second", topup=topup))
        await pays(wallet, customer, second)
        await customer.result(second)
    events = requests(serving.public, KEYS)
    flooding = asyncio.create_task(flood(relay.url, events))
    served = 0

    async def asks(customer: Customer) -> None:
        nonlocal served
        request = await customer.ask(serving.public, paying())
        if customer is returning:
            await pays(wallet, customer, request)
        await customer.result(request)
        served += 1

    await asyncio.sleep(1.0)
    for _ in range(5):
        await asyncio.gather(asks(rich), asks(returning))
    assert served == 10
    await flooding
    # Each key of the flood has a job, its trial or one that waits for a payment, or hears that there is no room.
    for event in events:
        async with asyncio.timeout(60):
            while not await serving.database.fetch_all(
                "SELECT 1 FROM job WHERE id = ? UNION ALL SELECT 1 FROM refused_request WHERE id = ?",
                (event.id, event.id),
            ):
                await asyncio.sleep(0.05)
    # For few of the refused ones a row was written, and an account opened.
    assert await count(serving, "job WHERE state = 'awaiting_funds'") == ProviderSettings().max_unpaid
    assert await count(serving, "job WHERE state = 'failed'") <= ProviderSettings().max_customers
    assert await count(serving, "refused_request") > KEYS / 2
    await clean(serving)
