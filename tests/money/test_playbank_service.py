"""The playbank over NIP-47: with our own client in memory, and with nostr-sdk's over a real relay."""

import asyncio
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

import nostr_sdk
import pytest

from pylon.clock import Clock, SystemClock
from pylon.errors import RelayError
from pylon.money.books import ledger
from pylon.money.books import store as ledger_store
from pylon.money.invoices.receiver import Receiver
from pylon.money.limits import PLAY_CAPS
from pylon.money.msat import Msat
from pylon.money.network import Network
from pylon.money.nwc import nip47
from pylon.money.nwc.client import NwcWallet
from pylon.money.nwc.nip47 import Cipher, Response, Scheme
from pylon.money.payment import Ask, Order
from pylon.money.payments.sender import Sender, SendPolicy
from pylon.money.playbank.bank import PlayBank
from pylon.money.playbank.schema import PLAYBANK
from pylon.money.playbank.service import PlayBankService
from pylon.money.states import PaymentState
from pylon.money.wallet import Hint, LookupState, PayState, WalletCode, WalletError
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.relay.server import RelayServer
from pylon.store.database import Database
from tests.manual_clock import ManualClock
from tests.money.craft import KEY
from tests.money.fakes import LoopRelay, open_database
from tests.waiting import until

sats = Msat.from_sats


class House:
    """A relay in memory, the bank beside it, and two links: alice may pay, bob may receive."""

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self.path, self.relay, self.clock = path, LoopRelay(), clock or SystemClock()

    async def start(self, **more: int) -> "House":
        self.database = await Database.open(self.path / "bank.db", [PLAYBANK], label="play", durability="NORMAL")
        self.bank = PlayBank(self.database, KEY, self.clock)
        self.service = PlayBankService(self.bank, KEY, self.relay, self.clock, **more)
        await self.service.start()
        relays = ("ws://127.0.0.1:1",)
        self.alice_uri = await self.service.open_link("alice", relays, can_pay=True, budget=sats(100))
        self.bob_uri = await self.service.open_link("bob", relays, can_pay=False)
        self.alice, self.bob = self.wallet(self.alice_uri), self.wallet(self.bob_uri)
        await self.alice.start()
        await self.bob.start()
        await self.bank.faucet("alice", sats(500))
        return self

    def wallet(self, uri) -> NwcWallet:
        return NwcWallet(uri, self.relay, self.clock)

    async def stop(self) -> None:
        await self.alice.close()
        await self.bob.close()
        await self.service.close()
        await self.database.close()

    async def raw(self, secret: SecretKey, method: str, params=None, *, tags=(), content=None) -> Response | None:
        """A request by hand; None when no answer comes."""
        cipher = Cipher(secret, KEY.public)
        content = content or cipher.encrypt(Scheme.NIP44, {"method": method, "params": params or {}})
        event = secret.sign(EventDraft(nip47.REQUEST, content, (("p", KEY.public), *tags)))
        before = len(self.relay.published)
        await self.relay.publish(event)
        await until(lambda: event.id in self.service._seen and not self.service._work)
        for answer in self.relay.published[before:]:
            if answer.kind == nip47.RESPONSE and answer.tag("e") == event.id:
                return nip47.parse_response(answer, cipher)
        return None


@pytest.fixture(autouse=True)
def no_grace(monkeypatch):
    monkeypatch.setattr("pylon.money.nwc.requests.ANSWER_GRACE_S", 0.0)


@pytest.fixture
async def house(tmp_path):
    house = await House(tmp_path).start()
    yield house
    await house.stop()


async def test_the_first_run_goes_through_the_code_that_real_money_goes_through(house, tmp_path):
    info = await house.alice.info()
    assert Network.PLAY.accepts_wallet(info.network)
    assert not any(n.accepts_wallet(info.network) for n in Network if n is not Network.PLAY)
    ours = await open_database(tmp_path, "customer.db")
    theirs = await open_database(tmp_path, "provider.db")
    receiver = Receiver(theirs, house.bob, house.clock, network=Network.PLAY)
    sender = Sender(ours, house.alice, SendPolicy(Network.PLAY, PLAY_CAPS, stopped=lambda: False), house.clock)
    issued = await receiver.issue("customer", "j1", sats(15), description="work")
    order = Order("j1", "provider", "customer", sats(5), sats(5), "r", sats(15))
    ask = Ask("provider", "j1", "customer", sats(15), issued.invoice, verified=True)
    assert (await sender.pay(ask, order)).state is PaymentState.SETTLED
    hint = await asyncio.wait_for(anext(house.bob.events()), 20)
    assert hint == Hint(issued.payment_hash)
    credited = await receiver.look_up(hint.payment_hash)
    assert credited is not None
    assert credited.amount == sats(15)
    assert await ledger_store.balance(theirs, ledger.customer("customer")) == 15_000
    assert await ledger_store.balance(ours, ledger.provider("provider")) == 15_000
    assert (await house.alice.balance(), await house.bob.balance()) == (sats(485), sats(15))
    await ours.close()
    await theirs.close()


async def test_a_receive_only_link_does_not_pay(house):
    text = await house.alice.create_invoice(sats(1), description="", expiry_s=60)
    result = await house.bob.pay(text, fee_limit=Msat(0))
    assert (result.state, result.code) == (PayState.FAILED, WalletCode.RESTRICTED)
    assert "pay_invoice" not in (await house.bob.info()).methods


async def test_a_budget_is_refused_with_its_own_code(house):
    text = await house.bob.create_invoice(sats(101), description="", expiry_s=60)
    assert (await house.alice.pay(text, fee_limit=Msat(0))).code is WalletCode.QUOTA_EXCEEDED


async def test_both_sides_look_up_and_nobody_else(house):
    text = await house.bob.create_invoice(sats(3), description="", expiry_s=60)
    [row] = await house.bank.history("bob", limit=1, offset=0, since=0, until=2**40)
    pending = await house.bob.lookup(row.payment_hash)
    assert (pending.state, pending.preimage) == (LookupState.PENDING, None)
    assert (await house.alice.lookup(row.payment_hash)).state is LookupState.NOT_FOUND
    await house.alice.pay(text, fee_limit=Msat(0))
    for wallet in (house.alice, house.bob):
        found = await wallet.lookup(row.payment_hash)
        assert (found.state, found.amount, found.preimage) == (LookupState.SETTLED, sats(3), row.preimage)


async def test_both_notices_are_sent_to_both_sides_in_both_encryptions(house):
    text = await house.bob.create_invoice(sats(3), description="", expiry_s=60)
    await house.alice.pay(text, fee_limit=Msat(0))
    await asyncio.wait_for(anext(house.bob.events()), 20)

    def kinds() -> list[int]:
        noticed = (nip47.NOTIFICATION, nip47.NOTIFICATION_NIP04)
        return sorted(event.kind for event in house.relay.published if event.kind in noticed)

    await until(lambda: len(kinds()) >= 4)
    assert kinds() == [nip47.NOTIFICATION_NIP04] * 2 + [nip47.NOTIFICATION] * 2


async def test_what_is_not_understood_is_answered_with_a_code_of_nip47(house):
    alice = house.alice_uri.secret
    assert (await house.raw(alice, "pay_keysend")).error == "NOT_IMPLEMENTED"
    assert (await house.raw(alice, "make_invoice", {"amount": 1})).error == "OTHER"
    assert (await house.raw(alice, "make_invoice", {"amount": "1"})).error == "OTHER"
    hashed = {"amount": 5_000, "description_hash": "a" * 64}
    assert (await house.raw(alice, "make_invoice", hashed)).error == "OTHER"
    assert (await house.raw(alice, "pay_invoice", {})).error == "OTHER"
    assert (await house.raw(alice, "lookup_invoice", {"payment_hash": 5})).error == "NOT_FOUND"
    assert (await house.raw(alice, "get_info", tags=(("encryption", "rot13"),))).error == "UNSUPPORTED_ENCRYPTION"
    assert (await house.raw(SecretKey(b"\x0b" * 32), "get_balance")).error == "UNAUTHORIZED"


async def test_an_expired_request_a_repeated_one_and_garbage_are_not_acted_on(house):
    text = await house.bob.create_invoice(sats(3), description="", expiry_s=60)
    alice = house.alice_uri.secret
    assert await house.raw(alice, "pay_invoice", {"invoice": text}, tags=(("expiration", "1000"),)) is None
    assert await house.raw(alice, "x", content="garbage") is None
    assert await house.alice.balance() == sats(500)
    before = len(house.relay.published)
    balance_request = next(e for e in house.relay.published if e.kind == nip47.REQUEST)
    await house.relay.publish(balance_request)
    # Once a later one is answered this one was read.
    await house.alice.balance()
    await house.service._work.wait()
    assert len(house.relay.published) == before + 3


async def test_too_many_requests_are_told_so_and_strangers_get_few_answers(tmp_path):
    # All of it comes in the same second.
    house = await House(tmp_path, ManualClock()).start(requests_per_s=5)
    found = await asyncio.gather(*(house.raw(house.alice_uri.secret, "get_balance", {"n": n}) for n in range(12)))
    assert [answer.error for answer in found if answer].count("RATE_LIMITED") == 7
    stranger = SecretKey(b"\x0b" * 32)
    found = await asyncio.gather(*(house.raw(stranger, "get_balance", {"n": n}) for n in range(12)))
    assert [answer.error for answer in found if answer] == ["UNAUTHORIZED"] * 5
    await house.stop()


async def test_a_lost_answer_to_a_payment_is_found_by_lookup(house):
    text = await house.bob.create_invoice(sats(3), description="", expiry_s=60)
    house.relay.drop = lambda event: event.kind == nip47.RESPONSE
    house.alice._pay_timeout = 0.2
    result = await NwcWallet.pay(house.alice, text, fee_limit=Msat(0))
    assert (result.state, result.code) == (PayState.UNKNOWN, WalletCode.TIMEOUT)
    # It is paid by then, and its answer is lost.
    await until(lambda: not house.service._work)
    house.relay.drop = lambda event: False
    [row] = await house.bank.history("bob", limit=1, offset=0, since=0, until=2**40)
    assert (await house.alice.lookup(row.payment_hash)).state is LookupState.SETTLED


async def test_a_bank_that_is_away_is_a_time_out(house, monkeypatch):
    await house.alice.balance()
    await house.service.close()
    with monkeypatch.context() as hasty:
        hasty.setattr(house.alice._requests, "_read_timeout", 0.1)
        with pytest.raises(WalletError) as caught:
            await house.alice.balance()
    assert caught.value.code is WalletCode.TIMEOUT
    house.service = PlayBankService(house.bank, KEY, house.relay, house.clock)
    await house.service.start()
    assert await house.alice.balance() == sats(500)


async def test_a_bank_whose_announcement_is_refused_begins_and_is_found_as_soon_as_it_is_taken(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr("pylon.money.playbank.service.ANNOUNCE_AGAIN_S", 0.01)
    house = House(tmp_path)
    publish, refused = house.relay.publish, []

    async def full(event, **more):
        if event.kind == nip47.INFO and len(refused) < 3:
            refused.append(event)
            raise RelayError("ws://x refused an event: error: this relay is full")
        return await publish(event, **more)

    monkeypatch.setattr(house.relay, "publish", full)
    await house.start()
    try:
        [warned] = [record.values for record in caplog.records if record.levelname == "WARNING"]
        assert "this relay is full" in warned["error"] and "max_mb" in warned["hint"]
        await until(lambda: any(event.kind == nip47.INFO for event in house.relay.published))
        assert len(refused) == 3
        assert await house.alice.balance() == sats(500)
    finally:
        await house.stop()


async def test_a_bank_that_is_closed_announces_itself_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr("pylon.money.playbank.service.ANNOUNCE_AGAIN_S", 0.01)
    relay, tries = LoopRelay(), []

    async def full(event, **_):
        tries.append(event)
        raise RelayError("full")

    monkeypatch.setattr(relay, "publish", full)
    database = await Database.open(tmp_path / "bank.db", [PLAYBANK], label="play", durability="NORMAL")
    service = PlayBankService(PlayBank(database, KEY, SystemClock()), KEY, relay, SystemClock())
    await service.start()
    await service.close()
    before = len(tries)
    await asyncio.sleep(0.1)
    assert len(tries) == before
    await database.close()


# --- over a real relay, with another implementation --------------------------------------------------------------


@pytest.fixture(params=["ours", "nostr-sdk"])
async def relay_url(request):
    # Another test of this process may have named its own, which is closed.
    nostr_sdk.uniffi_set_event_loop(asyncio.get_running_loop())
    if request.param == "ours":
        async with RelayServer() as relay:
            yield relay.url
        return
    local = nostr_sdk.LocalRelayBuilder().build()
    await local.run()
    yield str(await local.url())
    local.shutdown()


async def test_nostr_sdk_pays_an_invoice_of_ours_over_a_real_relay(tmp_path, relay_url):
    clock = SystemClock()
    database = await Database.open(tmp_path / "bank.db", [PLAYBANK], label="play", durability="NORMAL")
    bank = PlayBank(database, KEY, clock)
    pool = RelayPool([relay_url], secret=KEY)
    pool.start()
    await pool.wait_open()
    service = PlayBankService(bank, KEY, pool, clock)
    await service.start()
    alice = await service.open_link("alice", (relay_url,), can_pay=True)
    bob = await service.open_link("bob", (relay_url,), can_pay=False)
    await bank.faucet("alice", sats(100))
    ours_pool = RelayPool([relay_url], secret=bob.secret)
    ours_pool.start()
    ours = NwcWallet(bob, ours_pool, clock)
    await ours.start()
    theirs = (
        nostr_sdk.NostrWalletConnectBuilder(nostr_sdk.NostrWalletConnectUri.parse(alice.reveal()))
        .timeout(timedelta(seconds=10))
        .build()
    )
    info = await theirs.get_info()
    assert (info.alias, info.network) == ("Pylon playbank", "play")
    assert (await theirs.get_balance()).balance == 100_000
    text = await ours.create_invoice(sats(7), description="work", expiry_s=60)
    paid = await theirs.pay_invoice(nostr_sdk.PayInvoiceRequest(id=None, invoice=text, amount=None))
    hint = await asyncio.wait_for(anext(ours.events()), 20)
    found = await ours.lookup(hint.payment_hash)
    assert (found.state, found.preimage) == (LookupState.SETTLED, paid.preimage)
    lookup = await theirs.lookup_invoice(nostr_sdk.LookupInvoiceRequest(payment_hash=None, invoice=text))
    assert (lookup.payment_hash, lookup.amount, lookup.preimage) == (hint.payment_hash, 7_000, paid.preimage)
    made = await theirs.make_invoice(
        nostr_sdk.MakeInvoiceRequest(amount=5_000, description="d", description_hash=None, expiry=60)
    )
    assert made.invoice.startswith("lnbcrt50n1")
    assert await ours.balance() == sats(7)
    # Its client would go on connecting, and call a loop that is closed.
    await theirs.client().shutdown()
    await ours.close()
    await service.close()
    await ours_pool.close()
    await pool.close()
    await database.close()


# --- dying ----------------------------------------------------------------------------------------------------------

VICTIM = """
import asyncio, sys
from pathlib import Path
from pylon.clock import SystemClock
from pylon.money.msat import Msat
from pylon.money.playbank.bank import PlayBank
from pylon.money.playbank.schema import PLAYBANK
from pylon.store.database import Database
from tests.money.craft import KEY

async def main():
    database = await Database.open(Path(sys.argv[1]), [PLAYBANK], label="play")
    bank = PlayBank(database, KEY, SystemClock())
    alice = await bank.connect("aa" * 32, "alice", can_pay=True)
    await bank.faucet("alice", Msat.from_sats(10_000))
    while True:
        made = await bank.make_invoice("bob", Msat.from_sats(1), description="", expiry_s=600)
        print(made.invoice, flush=True)
        _, moved = await bank.pay(alice, made.invoice)
        print("paid", made.payment_hash, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "seed", [1, 2, pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
async def test_what_the_bank_said_was_paid_is_paid_after_kill_9(tmp_path, seed):
    path = tmp_path / "bank.db"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", VICTIM, str(path), stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}
    )
    assert process.stdout is not None
    lines = [(await process.stdout.readline()).decode().split() for _ in range(10 + 7 * seed)]
    process.send_signal(signal.SIGKILL)
    lines += [line.decode().split() for line in (await process.stdout.read()).splitlines()]
    await process.wait()
    said = [line[1] for line in lines if line and line[0] == "paid"]
    invoices = [line[0] for line in lines if len(line) == 1]
    database = await Database.open(path, [PLAYBANK], label="play")
    bank = PlayBank(database, KEY, SystemClock())
    alice = await bank.connection("aa" * 32)
    assert alice is not None
    held = (await bank.balance("bob")).whole_sats()
    assert len(said) <= held <= len(said) + 1
    for payment_hash in said:
        found = await bank.find("alice", payment_hash=payment_hash)
        assert found is not None
        assert found.settled_at
    # Whoever got no answer asks again, and pays once.
    for text in (*invoices[-2:], *invoices[-2:]):
        await bank.pay(alice, text)
    assert await bank.balance("bob") == sats(len(invoices))
    assert await bank.balance("alice") + await bank.balance("bob") == sats(10_000)
    await database.close()
