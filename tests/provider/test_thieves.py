"""A provider that asks for what was not agreed gets nothing, and the run's other jobs go on."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from pylon.clock import SystemClock
from pylon.money.invoices.receiver import Receiver
from pylon.money.invoices.store import Issued
from pylon.money.limits import PLAY_CAPS
from pylon.money.msat import Msat
from pylon.money.network import Network
from pylon.money.payments.sender import Sender, SendPolicy
from pylon.money.price import Price
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.provider.parts import Payments
from pylon.store.database import Database
from pylon.store.group import GroupCommit
from pylon.swarm.client import SwarmClient
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.settings import CheckSettings, SwarmSettings
from pylon.swarm.spending.account_purse import AccountPurse
from tests.money.craft import PLAIN, craft, honest
from tests.money.fakes import open_database

PRICE = Price(Msat(3_000), Msat(0), Msat(0))
JOBS = 6


def now() -> int:
    return int(SystemClock().wall())


ATTACKS: dict[str, Callable[[Issued], Issued]] = {
    "above_topup": lambda issued: replace(issued, amount=Msat(900_000), invoice=honest(900, created_at=now())),
    "amount_differs": lambda issued: replace(issued, amount=issued.amount * 2),
    "invoice_no_amount": lambda issued: replace(issued, invoice=craft(PLAIN, prefix="lnbcrt", timestamp=now())),
    "invoice_wrong_network": lambda issued: replace(issued, invoice=honest(9, currency="bc", created_at=now())),
    "invoice_expired": lambda issued: replace(issued, invoice=honest(9, created_at=now() - 7_200)),
    "invoice_malformed": lambda issued: replace(issued, invoice="lnbcrt1" + "q" * 60),
}


class Thief(Receiver):
    def __init__(self, *arguments, attack: Callable[[Issued], Issued]) -> None:
        super().__init__(*arguments, network=Network.PLAY)
        self.attack = attack

    async def prepare(self, *arguments, **options) -> Issued:
        return self.attack(await super().prepare(*arguments, **options))


@pytest.mark.parametrize("code", ATTACKS)
async def test_a_thief_is_paid_nothing_and_the_other_jobs_go_on(serve, bank, tmp_path, code, monkeypatch):
    refused: list[str] = []
    monkeypatch.setattr(
        "pylon.swarm.wire.settling.logger.warning", lambda text, **values: refused.append(str(values))
    )
    thief_wallet = await bank.wallet("thief")
    honest_wallet = await bank.wallet("honest")

    def stealing(database: Database) -> Payments:
        return Payments(database, thief_wallet, Thief(database, thief_wallet, SystemClock(), attack=ATTACKS[code]))

    def earning(database: Database) -> Payments:
        receiver = Receiver(database, honest_wallet, SystemClock(), network=Network.PLAY)
        return Payments(database, honest_wallet, receiver)

    thief = await serve(payments=stealing, price=PRICE, name="thief", network="play")
    worker = await serve(payments=earning, price=PRICE, name="honest", network="play", delay_s=0.05)

    wallet = await bank.wallet("customer", 1_000)
    database = await open_database(tmp_path, "customer.db")
    bank.stack.push_async_callback(database.close)
    group = GroupCommit(database)
    group.start()
    bank.stack.push_async_callback(group.close)
    secret, clock = SecretKey.generate(), SystemClock()
    pool = RelayPool([bank.relay.url], secret=secret)
    pool.start()
    bank.stack.push_async_callback(pool.close)
    sender = Sender(database, wallet, SendPolicy(Network.PLAY, PLAY_CAPS, stopped=lambda: False), clock)
    purse = AccountPurse(
        database=database, group=group, sender=sender, clock=clock, customer=secret.public,
        run="run",
    )  # fmt: skip
    # A second opinion from the thief comes to nothing, which takes its five seconds whatever the attack: once does.
    checks = CheckSettings() if code == "above_topup" else None
    client = SwarmClient(pool, secret, settings=SwarmSettings(bid=Msat(5_000), checks=checks), purse=purse)
    purse.changed = client.reconsider
    await purse.start()
    bank.stack.push_async_callback(purse.close)
    async with client:
        async with asyncio.timeout(20):
            while any(
                (found := client.directory.get(one.public)) is None or found.loading for one in (thief, worker)
            ):
                await asyncio.sleep(0.02)
        outcomes = await client.map([JobSpec(f"line {n}", max_tokens=8, timeout=60.0) for n in range(JOBS)])
    assert [type(one) for one in outcomes] == [Answer] * JOBS, [str(one) for one in outcomes]
    assert {outcome.provider for outcome in outcomes if isinstance(outcome, Answer)} == {worker.public}
    assert any(thief.public in text and code in text for text in refused), refused
    paid = await database.fetch_all("SELECT DISTINCT provider FROM money_payment")
    assert [row[0] for row in paid] == [worker.public]
    assert await thief_wallet.balance() == 0
    assert await honest_wallet.balance() + await wallet.balance() == 1_000_000
