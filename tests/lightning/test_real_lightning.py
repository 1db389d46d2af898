"""Jobs that are paid over real Lightning, on a private chain: what customer, provider and both wallets say."""

import asyncio
import sqlite3

import orjson
import psutil
import pytest

from pylon.bench.regtest import Regtest
from pylon.clock import SystemClock
from pylon.inference.engine import EngineSpec
from pylon.inference.service import InferenceService
from pylon.money.limits import PLAY_CAPS
from pylon.money.msat import Msat
from pylon.money.network import Network
from pylon.money.payment import Ask, Order, PaymentState
from pylon.money.price import Price
from pylon.money.receiver import Receiver
from pylon.money.sender import Sender, SendPolicy
from pylon.money.wallet import LookupState
from pylon.node import identity
from pylon.node.core import SCHEMAS
from pylon.node.home import Home
from pylon.nostr.nip44 import ConversationKeys
from pylon.nostr.pool import RelayPool
from pylon.provider.journal import Journal
from pylon.provider.service import Provider, Takings
from pylon.provider.settings import ProviderSettings
from pylon.store.database import Database
from pylon.store.group import GroupCommit
from tests.lightning.conftest import clean, database
from tests.node import programs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def jobs(count: int) -> bytes:
    return b"".join(orjson.dumps({"prompt": f"line {n}", "max_tokens": 16}) + b"\n" for n in range(count))


def query(env: dict[str, str], sql: str) -> list[tuple]:
    with sqlite3.connect(f"file:{database(env)}?mode=ro", uri=True) as connection:
        return connection.execute(sql).fetchall()


async def until(env: dict[str, str], sql: str, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while True:
            try:
                if query(env, sql):
                    return
            except sqlite3.Error:
                pass
            await asyncio.sleep(0.02)


async def mapped(env: dict[str, str], count: int, timeout: int = 60):
    return await programs.run("map", "-", "--timeout", str(timeout), env=env, stdin=jobs(count))


async def agree(customer: dict[str, str], provider: dict[str, str]) -> dict:
    """Both audits are clean, against the wallets too, and both books say the same; the customer's."""
    # A customer that is back asks for the receipts that it missed.
    await programs.run("providers", "--wait", "3", env=customer)
    ours, theirs = await clean(customer), await clean(provider)
    assert ours["wallet_asked"] and theirs["wallet_asked"]
    assert ours["paid_msat"] == theirs["received_msat"]
    assert ours["spent_msat"] == theirs["earned_msat"]
    return ours


async def test_a_strangers_job_is_paid(house):
    provider, customer = await house.provider(), await house.customer()
    await programs.start(provider, house.stack)
    before = await house.balance("buyer")
    code, _, said = await mapped(customer, 1)
    assert code == 0, said
    books = await agree(customer, provider)
    assert (books["payments"], books["spent_msat"]) == (1, 3_000)
    assert before - await house.balance("buyer") == books["paid_msat"]


async def test_a_run_of_a_hundred_is_topped_up_a_few_times(house):
    provider = await house.provider(PYLON_PROVIDER__BASE_MSAT="500", PYLON_PROVIDER__OUT_MSAT_PER_1K="10000")
    customer = await house.customer()
    await programs.start(provider, house.stack)
    before = await house.balance("buyer")
    code, result, said = await mapped(customer, 100)
    assert (code, result["answered"]) == (0, 100), said
    books = await agree(customer, provider)
    assert 1 <= books["payments"] <= 6
    assert before - await house.balance("buyer") == books["paid_msat"]


class Overcharging(Receiver):
    """Asks for a hundred times what was agreed."""

    async def prepare(self, customer, job, amount, **options):
        return await super().prepare(customer, job, amount * 100, **options)


async def test_an_overcharge_is_refused_and_the_job_goes_elsewhere(house):
    customer = await house.customer()
    wallet = await house.wallet("provider", house.stack)
    thief = Home(house.folder / "thief", "regtest")
    thief.create()
    secret = identity.create(thief.identity_file)
    opened = await Database.open(thief.database, SCHEMAS)
    house.stack.push_async_callback(opened.close)
    group = GroupCommit(opened)
    group.start()
    house.stack.push_async_callback(group.close)
    pool = RelayPool([house.regtest.relay], secret=secret)
    pool.start()
    house.stack.push_async_callback(pool.close)
    inference = InferenceService(EngineSpec("instant", "stand-in-instant"), SystemClock())
    await inference.start()
    house.stack.push_async_callback(inference.close)
    receiver = Overcharging(opened, wallet, SystemClock(), network=Network.REGTEST)
    served = Provider(
        secret,
        ConversationKeys(secret),
        pool,
        inference,
        Journal(opened, group),
        ProviderSettings(price=Price(Msat(3_000)), network="regtest"),
        "stand-in-instant",
        takings=Takings(opened, wallet, receiver),
    )
    await served.start()
    house.stack.push_async_callback(served.close)
    code, result, _ = await mapped(customer, 1, timeout=20)
    assert code != 0
    [(invoice, msat)] = await opened_rows(opened)
    assert msat == 300_000 or msat == 900_000
    assert (await wallet.lookup(invoice)).state is not LookupState.SETTLED
    assert (await clean(customer))["payments"] == 0
    # The same customer, with an honest provider beside it.
    honest = await house.provider()
    await programs.start(honest, house.stack)
    code, result, said = await mapped(customer, 5)
    assert (code, result["answered"]) == (0, 5), said
    books = await clean(customer)
    assert books["spent_msat"] == 15_000


async def opened_rows(opened: Database) -> list[tuple[str, int]]:
    return [tuple(row) for row in await opened.fetch_all("SELECT payment_hash, msat FROM money_invoice")]


async def test_a_customer_killed_in_the_middle_of_a_payment_has_paid_once(house):
    provider, customer = await house.provider(), await house.customer()
    await programs.start(provider, house.stack)
    before = await house.balance("buyer")
    process = await programs.spawn(
        "map", "-", "--json", env=customer, stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    process.stdin.write(jobs(10))
    process.stdin.close()
    await until(customer, "SELECT 1 FROM money_payment WHERE state = 'sending'")
    process.kill()
    await process.wait()
    code, result, said = await mapped(customer, 10)
    assert (code, result["answered"]) == (0, 10), said
    await until(
        customer, "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM money_payment WHERE state IN ('sending','unknown'))"
    )
    await agree(customer, provider)
    settled = query(
        customer, "SELECT job, sum(msat + fee), count(*) FROM money_payment WHERE state='settled' GROUP BY 1"
    )
    assert all(count == 1 for _, _, count in settled)
    assert before - await house.balance("buyer") == sum(msat for _, msat, _ in settled)


async def test_a_provider_killed_between_payment_and_result_does_the_job_when_it_is_back(house):
    provider = await house.provider(PYLON_INFERENCE__INSTANT_DELAY_S="4")
    customer = await house.customer()
    served = await programs.start(provider, house.stack)
    running = asyncio.create_task(mapped(customer, 1, timeout=90))
    await until(provider, "SELECT 1 FROM money_ledger WHERE kind = 'topup_received'")
    await served.kill()
    assert query(provider, "SELECT state FROM job") == [("queued",)] or query(provider, "SELECT state FROM job") == [
        ("awaiting_funds",)
    ]
    await programs.start(provider, house.stack)
    code, result, said = await running
    assert (code, result["answered"]) == (0, 1), said
    books = await agree(customer, provider)
    assert (books["payments"], books["spent_msat"]) == (1, 3_000)


async def test_an_invoice_that_expires_while_it_is_being_paid_is_paid_once_or_not_at_all(house):
    clock = SystemClock()
    opened = await Database.open(house.folder / "sender.db", SCHEMAS)
    house.stack.push_async_callback(opened.close)
    ours, theirs = await house.wallet("buyer", house.stack), await house.wallet("provider", house.stack)
    before = int(await ours.balance())
    sender = Sender(opened, ours, SendPolicy(Network.REGTEST, PLAY_CAPS, lambda: False), clock)
    text = await theirs.create_invoice(Msat(7_000), description="slow", expiry_s=34)
    electrum = house.regtest.process("provider")
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
    provider, customer = await house.provider(), await house.customer()
    await programs.start(provider, house.stack)
    regtest: Regtest = house.regtest
    await asyncio.to_thread(regtest.stop, "buyer")
    code, result, _ = await mapped(customer, 1, timeout=40)
    assert code != 0
    assert result["answered"] == 0
    await asyncio.to_thread(regtest.start_wallet, "buyer")
    await asyncio.to_thread(regtest.stop, "provider")
    code, result, _ = await mapped(customer, 1, timeout=40)
    assert (code != 0, result["answered"]) == (True, 0)
    assert query(provider, "SELECT count(*) FROM job WHERE result IS NOT NULL") == [(0,)]
    await asyncio.to_thread(regtest.start_wallet, "provider")
    async with asyncio.timeout(120):
        while (await programs.run("status", env=provider))[1]["provider"]["wallet_down"]:
            await asyncio.sleep(1)
    code, result, said = await mapped(customer, 1, timeout=90)
    assert (code, result["answered"]) == (0, 1), said
    await agree(customer, provider)


def test_everything_listens_on_loopback_alone(regtest):
    for name in regtest.status()["processes"]:
        process = regtest.process(name)
        for one in (process, *process.children(recursive=True)):
            for connection in one.net_connections(kind="inet"):
                if connection.status == psutil.CONN_LISTEN:
                    assert connection.laddr.ip in ("127.0.0.1", "::1"), (name, connection)
