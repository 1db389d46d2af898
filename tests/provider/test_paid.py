"""Paid work over a real relay and the playbank: what a customer is asked, and what it gets for it."""

import asyncio
from dataclasses import replace

import pytest

from pylon.clock import SystemClock
from pylon.jobs.cancel import cancel_draft
from pylon.jobs.codes import ErrorCode
from pylon.jobs.feedback import Status
from pylon.jobs.parameters import JobParameters
from pylon.jobs.request import JobRequest
from pylon.money import audit
from pylon.money.accounts.account import Terms
from pylon.money.accounts.usage import Bounds, check_usage
from pylon.money.invoices.receiver import Receiver
from pylon.money.msat import Msat
from pylon.money.network import Network
from pylon.money.price import Price
from pylon.money.wallet import PayState
from pylon.provider import housekeeping
from pylon.provider.parts import Payments
from pylon.provider.payments import payment_watch
from pylon.provider.payments.settlement import CreditPolicy
from pylon.provider.rows import JobState
from pylon.provider.work import results
from pylon.store.database import Database
from tests.swarm.test_reservation import Ahead

PRICE = Price(Msat(1_000), Msat(0), Msat(0))
NO_TRIAL = CreditPolicy(stranger=Terms(), trial=None)
FEES = Msat(0)


@pytest.fixture
async def paid(serve, bank, tmp_path):
    """Starts a provider that charges 1 sat a job: `paid(credit=…)`; again with `secret` to restart it."""

    async def start(*, credit=NO_TRIAL, price=PRICE, name="a", read_timeout_s=10.0, **options):
        wallet = await bank.wallet(f"provider {name}", read_timeout_s=read_timeout_s)

        def payments(database: Database) -> Payments:
            receiver = Receiver(database, wallet, SystemClock(), network=Network.PLAY)
            return Payments(database, wallet, receiver, credit)

        return await serve(payments=payments, price=price, name=name, **options)

    return start


def paying(text: str = "How many legs has a spider?", **changes) -> JobRequest:
    now = int(SystemClock().wall())
    return JobRequest(text, JobParameters(max_tokens=20), expiration=now + 60, bid=Msat(2_000), **changes)


async def asked(customer, request):
    """The payment that is asked for a job."""

    def found():
        return [f for f in customer.feedback(request) if f.status is Status.PAYMENT_REQUIRED]

    return (await customer.until(found))[0].amount


async def clean(serving) -> None:
    async with serving.database.transaction() as tx:
        assert audit.examine(await audit.collect(tx)) == []


@pytest.mark.parametrize("bid", [None, Msat(1_200)])
async def test_a_job_of_before_a_restart_costs_what_its_customer_was_told_then(paid, customer, bid):
    credit = CreditPolicy(stranger=Terms(credit=Msat(5_000)), trial=None)
    then = Price(Msat(1_000), Msat(0), Msat(10_000))
    serving = await paid(credit=credit, price=then, delay_s=30.0)
    request = await customer.ask(serving.public, replace(paying(), bid=bid))
    async with asyncio.timeout(10):
        while not await serving.journal.known([request.id]):
            await asyncio.sleep(0.02)
    await serving.stop()
    now = Price(Msat(1_500), Msat(10_000), Msat(50_000))
    serving = await paid(credit=credit, price=now, secret=serving.secret)
    result = await customer.result(request)
    assert result.account.charge_msat == then.charge(result.usage.prompt_tokens, result.usage.completion_tokens)
    bounds = Bounds(len(paying().text), 20)
    assert check_usage(result.usage, result.account.charge_msat, then, bounds) is None
    await clean(serving)


async def test_a_stranger_without_trial_pays_first_and_then_gets_its_result_and_receipt(paid, customer, bank):
    serving = await paid()
    wallet = await bank.wallet("customer", 100)
    request = await customer.ask(serving.public, paying())
    amount = await asked(customer, request)
    assert amount.msat == 1_000
    assert customer.results(request) == []
    assert (await wallet.pay(amount.bolt11, fee_limit=FEES)).state is PayState.SETTLED
    receipt = (await customer.result(request)).account
    assert (receipt.seq, receipt.charge_msat, receipt.charged_total, receipt.paid_total) == (1, 1_000, 1_000, 1_000)
    await clean(serving)


async def test_a_strangers_first_small_job_runs_on_trial_and_its_second_does_not(paid, customer):
    serving = await paid(credit=CreditPolicy())
    first = await customer.result(await customer.ask(serving.public, paying("first")))
    assert (first.account.charged_total, first.account.paid_total) == (1_000, 0)
    second = await customer.ask(serving.public, paying("second"))
    assert (await asked(customer, second)).msat == 2_000
    assert customer.results(second) == []


async def test_many_jobs_at_once_ask_for_one_payment_as_large_as_was_offered(paid, customer, bank):
    serving = await paid()
    wallet = await bank.wallet("customer", 100)
    requests = [await customer.ask(serving.public, paying(f"job {n}", topup=Msat(10_000))) for n in range(10)]
    # Each of them is told: whoever loses one of these events can pay by another.
    invoices = {(await asked(customer, request)).bolt11 for request in requests}
    assert len(invoices) == 1
    await wallet.pay(invoices.pop(), fee_limit=FEES)
    results = [await customer.result(request) for request in requests]
    assert sorted(result.account.seq for result in results) == list(range(1, 11))
    assert max(result.account.charged_total for result in results) == 10_000
    await clean(serving)


async def test_a_trusted_key_is_never_charged(paid, customer):
    serving = await paid(trusted=frozenset({customer.secret.public}))
    result = await customer.result(await customer.ask(serving.public, paying()))
    assert (result.account.charge_msat, result.account.charged_total) == (0, 0)


async def test_a_bid_below_the_quote_is_refused_before_any_invoice_is_made(paid, customer):
    serving = await paid()
    request = await customer.ask(serving.public, JobRequest("cheap", bid=Msat(999)))
    assert (await customer.refusal(request)).code is ErrorCode.BID_TOO_LOW
    assert await serving.database.fetch_all("SELECT * FROM money_invoice") == []


async def test_a_job_that_is_not_paid_in_time_expires_and_a_late_payment_is_credit_for_the_next(paid, customer, bank):
    clock = Ahead()
    serving = await paid(provider_clock=clock)
    wallet = await bank.wallet("customer", 100)
    now = int(SystemClock().wall())
    request = await customer.ask(serving.public, JobRequest("late", bid=Msat(2_000), expiration=now + 30))
    amount = await asked(customer, request)
    clock.by_s = 30.0
    assert (await customer.refusal(request)).code is ErrorCode.PAYMENT_TIMEOUT
    await wallet.pay(amount.bolt11, fee_limit=FEES)
    while not await serving.database.fetch_all("SELECT * FROM money_ledger"):
        await asyncio.sleep(0.05)
    result = await customer.result(await customer.ask(serving.public, paying("in time")))
    assert (result.account.charged_total, result.account.paid_total) == (1_000, 1_000)
    await clean(serving)


async def test_a_payment_made_while_the_provider_was_down_runs_its_job_after_the_restart(paid, customer, bank):
    serving = await paid()
    wallet = await bank.wallet("customer", 100)
    request = await customer.ask(serving.public, paying())
    amount = await asked(customer, request)
    await serving.stop()
    await wallet.pay(amount.bolt11, fee_limit=FEES)
    again = await paid(secret=serving.secret)
    assert (await customer.result(request)).account.paid_total == 1_000
    await clean(again)


async def test_a_cancelled_job_that_waits_for_its_payment_costs_nothing_and_its_customer_hears_so(paid, customer):
    serving = await paid()
    request = await customer.ask(serving.public, paying())
    await asked(customer, request)
    await customer.send(cancel_draft((request.id,), request.kind, serving.public, created_at=request.created_at))
    while (await serving.provider.status()).jobs != {"cancelled": 1}:
        await asyncio.sleep(0.02)
    assert (await serving.provider.status()).awaiting_funds == 0
    assert (await customer.refusal(request)).code is ErrorCode.CANCELLED


async def cancel(customer, serving, request):
    before = (await serving.provider.status()).jobs.get("cancelled", 0)
    await customer.send(cancel_draft((request.id,), request.kind, serving.public, created_at=request.created_at))
    async with asyncio.timeout(10):
        while (await serving.provider.status()).jobs.get("cancelled", 0) == before:
            await asyncio.sleep(0.02)


async def test_a_trial_that_is_taken_back_when_it_has_begun_is_spent_and_one_that_waits_is_not(
    paid, customer, another_customer
):
    serving = await paid(credit=CreditPolicy(), delay_s=30.0, slots=1)
    other = await another_customer()
    begun = await customer.ask(serving.public, paying("begins at once"))
    while (await serving.provider.status()).running != 1:
        await asyncio.sleep(0.02)
    waits = await other.ask(serving.public, paying("waits"))
    while (await serving.provider.status()).queued != 1:
        await asyncio.sleep(0.02)
    await cancel(other, serving, waits)
    # Taken on once more without a payment.
    await other.ask(serving.public, paying("waits again"))
    while (await serving.provider.status()).queued != 1:
        await asyncio.sleep(0.02)
    await cancel(customer, serving, begun)
    assert (await customer.refusal(begun)).code is ErrorCode.CANCELLED
    assert (await asked(customer, await customer.ask(serving.public, paying("again")))).msat == 1_000
    await clean(serving)


async def invoices(serving) -> list[tuple[str, int]]:
    rows = await serving.database.fetch_all("SELECT state, msat FROM money_invoice ORDER BY created_at")
    return [(row["state"], row["msat"]) for row in rows]


async def test_an_open_invoice_is_shown_to_jobs_that_come_later_and_once_more_after_a_restart(paid, customer, bank):
    serving = await paid()
    wallet = await bank.wallet("customer", 100)
    first = await customer.ask(serving.public, paying("first", topup=Msat(2_000)))
    amount = await asked(customer, first)
    second = await customer.ask(serving.public, paying("second"))
    assert await asked(customer, second) == amount
    await serving.stop()
    customer.answers.clear()
    again = await paid(secret=serving.secret)
    assert await asked(customer, first) == await asked(customer, second) == amount
    await wallet.pay(amount.bolt11, fee_limit=FEES)
    assert [(await customer.result(request)).account.seq for request in (first, second)] == [1, 2]
    assert await invoices(again) == [("settled", 2_000)]
    await clean(again)


async def test_the_invoice_of_a_job_that_was_taken_back_is_paid_for_the_next_one(paid, customer, bank):
    serving = await paid()
    wallet = await bank.wallet("customer", 100)
    first = await customer.ask(serving.public, paying("first"))
    amount = await asked(customer, first)
    await cancel(customer, serving, first)
    second = await customer.ask(serving.public, paying("second"))
    assert await asked(customer, second) == amount
    assert [row["job"] for row in await serving.database.fetch_all("SELECT job FROM money_invoice")] == [second.id]
    await wallet.pay(amount.bolt11, fee_limit=FEES)
    assert (await customer.result(second)).account.paid_total == 1_000
    await clean(serving)


@pytest.mark.parametrize("had", [None, 10_000], ids=["too small", "too large"])
async def test_an_invoice_that_fits_no_job_any_more_gives_way_to_another(paid, customer, bank, monkeypatch, had):
    monkeypatch.setattr(payment_watch, "KEEP_INVOICE_S", 0.0)
    monkeypatch.setattr(payment_watch, "CHECK_S", 0.2)
    serving = await paid(credit=CreditPolicy())
    wallet = await bank.wallet("customer", 100)
    await customer.result(await customer.ask(serving.public, paying("on trial")))
    first = await customer.ask(serving.public, paying("first", topup=None if had is None else Msat(had)))
    old = await asked(customer, first)
    async with serving.database.transaction() as tx:
        # Some of what it owed is forgiven, or more of it is owed.
        await tx.execute("UPDATE money_invoice SET msat = ?", (1_000 if had is None else had,))
    await cancel(customer, serving, first)
    second = await customer.ask(serving.public, paying("second"))
    new = await asked(customer, second)
    assert (new.msat, new.bolt11 == old.bolt11) == (2_000, False)
    assert [state for state, _ in await invoices(serving)] == ["expired", "pending"]
    # What is paid of the old one all the same is credit, without a restart.
    await wallet.pay(old.bolt11, fee_limit=FEES)
    if had is None:
        await wallet.pay(new.bolt11, fee_limit=FEES)
    assert (await customer.result(second)).account.seq == 2
    await clean(serving)


async def test_a_job_that_waits_behind_one_that_is_taken_back_goes_on_with_its_invoice(paid, customer, bank):
    serving = await paid()
    wallet = await bank.wallet("customer", 100)
    first, second = [await customer.ask(serving.public, paying(f"job {n}", topup=Msat(2_000))) for n in range(2)]
    amount = await asked(customer, first)
    assert await asked(customer, second) == amount
    await cancel(customer, serving, first)
    async with asyncio.timeout(10):
        while await serving.database.fetch_all("SELECT 1 FROM money_invoice WHERE job = ?", (first.id,)):
            await asyncio.sleep(0.05)
    await wallet.pay(amount.bolt11, fee_limit=FEES)
    assert (await customer.result(second)).account.paid_total == 2_000
    assert await invoices(serving) == [("settled", 2_000)]


async def test_a_job_that_ends_unpaid_says_what_it_waited_for(paid, customer):
    clock = Ahead()
    serving = await paid(provider_clock=clock)
    now = int(SystemClock().wall())
    first = await customer.ask(serving.public, paying("first"))
    await asked(customer, first)
    second = await customer.ask(serving.public, JobRequest("second", bid=Msat(2_000), expiration=now + 30))
    await asked(customer, second)
    clock.by_s = 30.0
    refusal = await customer.refusal(second)
    assert refusal.code is ErrorCode.PAYMENT_TIMEOUT
    assert refusal.text == (
        f"the payment of 1000 msat, first asked for request {first.id[:16]}, that this job waited for did not come in"
        " time"
    )


async def test_without_its_wallet_paid_work_is_refused_and_never_free(paid, customer, bank, monkeypatch):
    monkeypatch.setattr("pylon.money.nwc.requests.ANSWER_GRACE_S", 0.0)
    serving = await paid(read_timeout_s=0.5)
    await bank.service.close()
    request = await customer.ask(serving.public, paying())
    refusal = await customer.refusal(request)
    assert (refusal.code, refusal.text) == (ErrorCode.PAUSED, "wallet")
    assert customer.results(request) == []


async def test_jobs_that_wait_for_their_payment_take_nobody_elses_place(paid, customer, another_customer):
    serving = await paid(max_queue=1)
    assert await asked(customer, await customer.ask(serving.public, paying()))
    other = await another_customer()
    assert await asked(other, await other.ask(serving.public, paying()))


async def test_a_provider_forgets_what_it_let_go_when_it_forgets_the_jobs(paid, customer, monkeypatch):
    monkeypatch.setattr(housekeeping, "EVERY_S", 0.05)
    monkeypatch.setattr(housekeeping, "BELIEVED_S", 0.0)
    monkeypatch.setattr(housekeeping, "KEEP_ROWS_S", -60.0)
    serving = await paid(credit=CreditPolicy(), delay_s=30.0)
    request = await customer.ask(serving.public, paying())
    async with asyncio.timeout(10):
        while not (await serving.provider.status()).running:
            await asyncio.sleep(0.02)
    assert await serving.database.fetch_all("SELECT 1 FROM money_hold")
    await customer.send(cancel_draft((request.id,), request.kind, serving.public, created_at=request.created_at))
    async with asyncio.timeout(10):
        while await serving.database.fetch_all("SELECT 1 FROM money_hold UNION ALL SELECT 1 FROM job"):
            await asyncio.sleep(0.02)


async def test_a_result_that_no_relay_has_before_it_expires_is_given_up_and_its_charge_stands(
    paid, customer, monkeypatch
):
    with monkeypatch.context() as patch:
        # As after more than an hour without relays; this relay refuses what has expired.
        patch.setattr(results, "answer_expiry", lambda deadline, now: int(now) - 1)
        serving = await paid(credit=CreditPolicy(stranger=Terms(credit=Msat(4_000)), trial=None))
        request = await customer.ask(serving.public, paying())
        async with asyncio.timeout(10):
            while (await serving.provider.status()).jobs != {JobState.UNDELIVERED: 1}:
                await asyncio.sleep(0.02)
    assert (await serving.provider.status()).unpublished == 0
    assert (await serving.journal.known([request.id])) == {request.id: None}
    assert [row.charge_msat for row in await serving.journal.rows()] == [1_000]
    await clean(serving)
    receipt = (await customer.result(await customer.ask(serving.public, paying("And a bee?")))).account
    assert (receipt.seq, receipt.charged_total) == (2, 2_000)
    await clean(serving)


async def test_a_job_that_waited_for_its_payment_is_answered_once_where_work_has_become_free(paid, serve, customer):
    serving = await paid()
    request = await customer.ask(serving.public, paying())
    await asked(customer, request)
    await serving.stop()
    free = await serve(secret=serving.secret)
    result = await customer.result(request)
    # Its customer had set the price aside, and would not know for hours that it costs nothing.
    assert result.account.charge_msat == 0
    async with asyncio.timeout(10):
        while await free.journal.counts() != {"settled": 1}:
            await asyncio.sleep(0.02)
    await free.stop()
    again = await serve(secret=serving.secret)
    assert [one async for one in again.journal.pending()] == []
    assert customer.results(request) == [result]
    await clean(again)


async def test_what_ran_for_a_price_when_work_became_free_costs_that_and_holds_nothing_for_ever(
    paid, serve, customer
):
    serving = await paid(credit=CreditPolicy(stranger=Terms(credit=Msat(5_000)), trial=None), delay_s=30.0)
    request = await customer.ask(serving.public, paying())
    async with asyncio.timeout(10):
        while not await serving.journal.known([request.id]):
            await asyncio.sleep(0.02)
    await serving.stop()
    free = await serve(secret=serving.secret)
    assert (await customer.result(request)).account.charge_msat == 1_000
    assert await free.database.fetch_all("SELECT 1 FROM money_hold") == []
    await clean(free)
