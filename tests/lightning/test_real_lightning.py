"""Jobs that are paid over real Lightning, on a private chain: what customer, provider and both wallets say."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import orjson
import psutil
import pytest

from pylon.clock import SystemClock
from pylon.inference.engine import EngineSpec
from pylon.inference.service import InferenceService
from pylon.jobs.kinds import FEEDBACK
from pylon.money.invoices.receiver import Receiver
from pylon.money.limits import PLAY_CAPS
from pylon.money.msat import Msat
from pylon.money.network import Network
from pylon.money.payment import Ask, Order
from pylon.money.payments.sender import Sender, SendPolicy
from pylon.money.price import Price
from pylon.money.states import PaymentState
from pylon.money.wallet import LookupState
from pylon.node import identity
from pylon.node.calls.client import RemoteNode
from pylon.node.calls.protocol import result_of
from pylon.node.home import Home
from pylon.node.open_home import SCHEMAS
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.pool import RelayPool
from pylon.provider.journal import Journal
from pylon.provider.parts import Payments
from pylon.provider.service import Provider
from pylon.provider.settings import ProviderSettings
from pylon.store.database import Database
from tests.lightning.conftest import prompts, query, until
from tests.node import programs
from tests.opened import opened_database
from tools.regtest.stack import Regtest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


async def test_a_strangers_job_is_paid(house):
    provider, customer = house.home("provider", "provider"), house.home("customer", "buyer")
    await house.serve(provider)
    before = await house.balance("buyer")
    assert (await house.map(customer, 1))["answered"] == 1
    books = await house.agreed(customer, provider)
    assert (books["payments"], books["paid_msat"]) == (1, 3_000)
    assert before - await house.balance("buyer") == books["sent_msat"]


async def test_a_run_of_a_hundred_is_topped_up_a_few_times(house):
    provider, customer = house.home("provider", "provider"), house.home("customer", "buyer")
    await house.serve(provider, PYLON_PROVIDER__BASE_MSAT="500", PYLON_PROVIDER__OUT_MSAT_PER_1K="10000")
    before = await house.balance("buyer")
    assert (await house.map(customer, 100))["answered"] == 100
    books = await house.agreed(customer, provider)
    assert 1 <= books["payments"] <= 6
    assert before - await house.balance("buyer") == books["sent_msat"]


class Overcharging(Receiver):
    """Asks for a hundred times what was agreed."""

    async def prepare(self, customer, job, amount, **options):
        return await super().prepare(customer, job, amount * 100, **options)


@asynccontextmanager
async def overcharging(house, home: Home) -> AsyncIterator[Database]:
    """A provider that asks too much, in this process; its database."""
    async with AsyncExitStack() as stack:
        wallet = await house.wallet("provider", stack)
        database, group = await stack.enter_async_context(opened_database(home.database, *SCHEMAS, label="regtest"))
        secret = identity.load(home.identity_file)
        pool = RelayPool([house.regtest.relay], secret=secret)
        pool.start()
        stack.push_async_callback(pool.close)
        inference = InferenceService(EngineSpec("instant", "stand-in-instant"), SystemClock())
        await inference.start()
        stack.push_async_callback(inference.close)
        served = Provider(
            secret=secret,
            keys=ConversationKeys(secret),
            pool=pool,
            inference=inference,
            journal=Journal(database, group),
            settings=ProviderSettings(price=Price(Msat(3_000)), network="regtest"),
            model="stand-in-instant",
            payments=Payments(
                database, wallet, Overcharging(database, wallet, SystemClock(), network=Network.REGTEST)
            ),
        )
        await served.start()
        stack.push_async_callback(served.close)
        yield database


async def test_an_overcharge_is_refused(house):
    thief, customer = house.home("thief", "provider"), house.home("customer", "buyer")
    before = await house.balance("buyer")
    async with overcharging(house, thief) as theirs:
        assert (await house.map(customer, 1, timeout_s=30))["answered"] == 0
        asked = await theirs.fetch_all("SELECT msat, state FROM money_invoice")
        assert [(row["msat"] >= 300_000, row["state"]) for row in asked] == [(True, "pending")] * len(asked)
        assert asked
    assert query(customer, "SELECT * FROM money_payment") == []
    assert await house.balance("buyer") == before


async def start_map(house, customer: Home, count: int) -> asyncio.subprocess.Process:
    env = house.environment(customer, PYLON_CUSTOMER__BID_MSAT="10000")
    process = await programs.spawn("map", "-", "--json", env=env, stdin=asyncio.subprocess.PIPE)
    process.stdin.write(b"\n".join(map(orjson.dumps, prompts(count))) + b"\n")
    process.stdin.close()
    return process


async def test_a_customer_killed_in_the_middle_of_a_payment_has_paid_once(house):
    provider, customer = house.home("provider", "provider"), house.home("customer", "buyer")
    await house.serve(provider)
    wallet = await house.wallet("buyer", house.stack)
    before = int(await wallet.balance())
    process = await start_map(house, customer, 10)
    await until(provider, "SELECT 1 FROM money_invoice WHERE state = 'pending'")
    # The payee is made to wait, so that the payment is under way when its customer dies.
    electrum = house.regtest.running.process("provider")
    electrum.suspend()
    try:
        await until(customer, "SELECT 1 FROM money_payment WHERE state = 'sending'")
        [(payment_hash,)] = query(customer, "SELECT payment_hash FROM money_payment")
        async with asyncio.timeout(60):
            while (await wallet.lookup(payment_hash, since=0)).state is LookupState.NOT_FOUND:
                await asyncio.sleep(0.1)
        process.kill()
        await process.communicate()
        assert query(customer, "SELECT state FROM money_payment") == [("sending",)]
    finally:
        electrum.resume()
    assert (await house.map(customer, 10))["answered"] == 10
    await house.agreed(customer, provider)
    payments = query(customer, "SELECT payment_hash, job, state, msat + fee FROM money_payment")
    assert {state for *_, state, _ in payments} == {"settled"}
    assert payment_hash in {first for first, *_ in payments}
    assert len({job for _, job, *_ in payments}) == len(payments)
    assert before - int(await wallet.balance()) == sum(cost for *_, cost in payments)


async def test_a_customer_killed_as_it_begins_to_pay_pays_nothing_twice(house):
    provider, customer = house.home("provider", "provider"), house.home("customer", "buyer")
    await house.serve(provider)
    before = await house.balance("buyer")
    process = await start_map(house, customer, 1)
    await until(customer, "SELECT 1 FROM money_payment WHERE state = 'sending'")
    process.kill()
    await process.communicate()
    mapped = await house.map(customer, 1, timeout_s=40)
    # A request to pay that died on its way blocks this provider until its invoice can no longer be paid.
    unsure = query(customer, "SELECT 1 FROM money_payment WHERE state = 'unknown'")
    assert mapped["answered"] == 1 or unsure
    await house.agreed(customer, provider)
    payments = query(customer, "SELECT state, msat + coalesce(fee, 0) FROM money_payment")
    assert len(payments) == 1
    paid = sum(cost for state, cost in payments if state == "settled")
    assert before - await house.balance("buyer") == paid


async def test_a_provider_killed_between_payment_and_result_does_the_job_when_it_is_back(house):
    provider, customer = house.home("provider", "provider"), house.home("customer", "buyer")
    served = await house.serve(provider, PYLON_INFERENCE__INSTANT_DELAY_S="4")
    async with house.customer(customer) as node:
        running = asyncio.create_task(result_of(node, "map", {"jobs": prompts(1), "timeout_s": 200}))
        await until(provider, "SELECT 1 FROM money_ledger WHERE kind = 'topup_received'")
        await served.kill()
        assert query(provider, "SELECT state FROM job") in ([("queued",)], [("awaiting_funds",)])
        await house.serve(provider)
        assert (await running)["answered"] == 1
    books = await house.agreed(customer, provider)
    assert (books["payments"], books["paid_msat"]) == (1, 3_000)


async def test_an_invoice_that_expires_while_it_is_being_paid_is_paid_once_or_not_at_all(house):
    clock = SystemClock()
    opened = await Database.open(house.folder / "sender.db", SCHEMAS)
    house.stack.push_async_callback(opened.close)
    ours, theirs = await house.wallet("buyer", house.stack), await house.wallet("provider", house.stack)
    before = int(await ours.balance())
    sender = Sender(opened, ours, SendPolicy(Network.REGTEST, PLAY_CAPS, lambda: False), clock)
    text = await theirs.create_invoice(Msat(7_000), description="slow", expiry_s=34)
    electrum = house.regtest.running.process("provider")
    electrum.suspend()
    try:
        paying = asyncio.create_task(
            sender.pay(
                Ask("aa" * 32, "job", "bb" * 32, Msat(7_000), text, verified=True),
                Order("job", "aa" * 32, "bb" * 32, Msat(7_000), Msat(7_000), "run"),
            )
        )
        await asyncio.sleep(40)
        [open_] = await rows_of(opened)
        assert open_[1] in (PaymentState.SENDING, PaymentState.UNKNOWN)
    finally:
        electrum.resume()
    payment = await paying
    async with asyncio.timeout(120):
        while payment.state not in (PaymentState.SETTLED, PaymentState.FAILED):
            await asyncio.sleep(1)
            ended = await sender.check()
            payment = ended[0] if ended else payment
    seen = (await theirs.lookup(payment.payment_hash)).state
    assert (seen is LookupState.SETTLED) == (payment.state is PaymentState.SETTLED)
    spent = before - int(await ours.balance())
    assert spent == (7_000 if payment.state is PaymentState.SETTLED else 0)
    await sender.close()


async def rows_of(opened: Database) -> list[tuple]:
    return [tuple(row) for row in await opened.fetch_all("SELECT payment_hash, state FROM money_payment")]


async def test_a_wallet_that_was_away_is_used_again_and_nothing_is_free_meanwhile(house):
    provider, customer = house.home("provider", "provider"), house.home("customer", "buyer")
    await house.serve(provider)
    regtest: Regtest = house.regtest
    await asyncio.to_thread(regtest.stop, "buyer")
    assert (await house.map(customer, 1, timeout_s=40))["answered"] == 0
    await asyncio.to_thread(regtest.start_wallet, "buyer")
    await asyncio.to_thread(regtest.stop, "provider")
    assert (await house.map(customer, 1, timeout_s=40))["answered"] == 0
    # What is signed of these says that they are not done.
    signed = [
        orjson.loads(result) for (result,) in query(provider, "SELECT result FROM job WHERE result IS NOT NULL")
    ]
    assert all(event["kind"] == FEEDBACK for event in signed)
    await asyncio.to_thread(regtest.start_wallet, "provider")
    async with asyncio.timeout(180):
        while (await result_of(RemoteNode(provider.socket), "status"))["provider"]["wallet_down"]:
            await asyncio.sleep(1)
    assert (await house.map(customer, 1))["answered"] == 1
    await house.agreed(customer, provider)


def test_everything_listens_on_loopback_alone(regtest):
    for name in regtest.status()["processes"]:
        process = regtest.running.process(name)
        for one in (process, *process.children(recursive=True)):
            for connection in one.net_connections(kind="inet"):
                if connection.status == psutil.CONN_LISTEN:
                    assert connection.laddr.ip in ("127.0.0.1", "::1"), (name, connection)
