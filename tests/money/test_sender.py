"""Every condition before paying, each with its own code; and a crash at every step."""

import asyncio
import sqlite3
from contextlib import ExitStack
from dataclasses import replace

import pytest

from pylon.errors import MoneyError
from pylon.money import audit
from pylon.money.accounts import mirror_store
from pylon.money.accounts.mirror import Claim
from pylon.money.accounts.receipt import AccountReceipt
from pylon.money.books import ledger
from pylon.money.books import store as ledger_store
from pylon.money.invoices.invoice import InvoiceCode, decode
from pylon.money.limits import PLAY_CAPS, Limit, Spend
from pylon.money.msat import MAX_MSAT, Msat
from pylon.money.network import Network
from pylon.money.payment import (
    ARRIVAL_GRACE_S,
    NEVER_SENT,
    PRESUMED_FAILED,
    UNSETTLED_GRACE_S,
    Ask,
    Order,
    Payment,
    PaymentRefusedError,
    Refusal,
    resolve,
)
from pylon.money.payments import payees as payee_store
from pylon.money.payments import store as payment_store
from pylon.money.payments.agreed import FIRST
from pylon.money.payments.decision import Decision, DecisionRefusedError
from pylon.money.payments.sender import Sender, SendPolicy
from pylon.money.states import IllegalStepError, PaymentState
from pylon.money.wallet import Lookup, LookupState, WalletCode, WalletError
from pylon.nostr.bech32 import nip19
from tests.money.craft import NOW, OTHER_KEY, but, craft, groups, honest
from tests.money.fakes import FakeLightning, FakeWallet, clock, open_database

sats = Msat.from_sats
PROVIDER, CUSTOMER, OTHER = "aa" * 32, "bb" * 32, "cc" * 32
ORDER = Order("j1", PROVIDER, CUSTOMER, quote=sats(5), bid=sats(6), run="r1", topup=sats(15))
POLICY = SendPolicy(Network.PLAY, PLAY_CAPS, stopped=lambda: False)


class Side:
    """A customer's node: database, wallet and sender, which can die and come back."""

    def __init__(self, path, lightning, policy=POLICY):
        self.path, self.lightning, self.policy = path, lightning, policy
        self.clock = lightning.clock
        self.wallet = lightning.wallet()
        self.payee = lightning.wallet()

    async def start(self):
        self.database = await open_database(self.path)
        self.sender = Sender(self.database, self.wallet, self.policy, self.clock)
        return self

    async def restart(self):
        await self.database.close()
        await self.start()

    async def ask(self, amount=15, wallet: FakeWallet | None = None, **changes) -> Ask:
        text = await (wallet or self.payee).create_invoice(sats(amount), description="", expiry_s=600)
        return replace(Ask(PROVIDER, "j1", CUSTOMER, sats(amount), text, True), **changes)

    async def refused(self, ask: Ask, order: Order = ORDER):
        """The code; and nothing changed in the database or the wallet."""
        before = await self.rows(), list(self.lightning.moved)
        with pytest.raises(PaymentRefusedError) as caught:
            await self.sender.pay(ask, order)
        assert (await self.rows(), self.lightning.moved) == before
        return caught.value.code

    async def rows(self):
        return [tuple(row) for row in await self.database.fetch_all("SELECT * FROM money_payment")]


def hash_of(ask: Ask) -> str:
    return decode(ask.invoice or "").payment_hash


# A payment that was sent, and of whose outcome nothing is known.
SENT = Payment(
    "00" * 32, "j1", PROVIDER, "r1", amount=sats(15), fee_limit=sats(10), fee=None, invoice="", payee="02" * 33,
    expires_at=NOW, state=PaymentState.SENDING, preimage=None, reason="", reserved_at=NOW,
)  # fmt: skip


@pytest.fixture
async def side(tmp_path):
    side = await Side(tmp_path, FakeLightning(clock())).start()
    yield side
    await side.sender.close()
    await side.database.close()


# --- paid -----------------------------------------------------------------------------------------------------------


async def test_an_agreed_invoice_is_paid_once_and_booked(side):
    side.wallet.fee = 1_000
    payment = await side.sender.pay(await side.ask(), ORDER)
    assert (payment.state, payment.fee) == (PaymentState.SETTLED, sats(1))
    assert await ledger_store.balance(side.database, ledger.provider(PROVIDER)) == 15_000
    assert await ledger_store.balance(side.database, ledger.WALLET) == -16_000
    assert side.lightning.moved == [payment.payment_hash]
    books = await audit.collect(side.database)
    assert audit.examine(books) == []
    assert await audit.compare_with_wallet(side.wallet, books) == []


async def test_a_fee_that_the_answer_leaves_out_is_looked_up(side):
    side.wallet.fee = 1_000
    original = side.wallet.pay

    async def pay(invoice, *, fee_limit):
        return replace(await original(invoice, fee_limit=fee_limit), fee=None)

    side.wallet.pay = pay
    assert (await side.sender.pay(await side.ask(), ORDER)).fee == sats(1)
    side.wallet.fee = 0
    side.wallet.lookup_as = lambda lookup: Lookup(LookupState.PENDING)
    assert (await side.sender.pay(await side.ask(job="j2"), replace(ORDER, job="j2"))).fee == 0


async def test_the_row_says_sending_before_the_wallet_is_asked(side):
    states = []
    original = side.wallet.pay

    async def pay(invoice, *, fee_limit):
        states.extend(await payment_store.in_state(side.database, PaymentState.SENDING))
        return await original(invoice, fee_limit=fee_limit)

    side.wallet.pay = pay
    await side.sender.pay(await side.ask(), ORDER)
    assert len(states) == 1


# --- the adversary --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"verified": False}, Refusal.UNVERIFIED),
        ({"author": OTHER}, Refusal.WRONG_AUTHOR),
        ({"job": "j2"}, Refusal.WRONG_JOB),
        ({"customer": OTHER}, Refusal.WRONG_CUSTOMER),
        ({"invoice": None}, Refusal.NO_INVOICE),
        ({"invoice": ""}, Refusal.NO_INVOICE),
        ({"invoice": "lnbcrt1garbage"}, InvoiceCode.MALFORMED),
        ({"amount": None}, Refusal.AMOUNT_DIFFERS),
        ({"amount": sats(14)}, Refusal.AMOUNT_DIFFERS),
        ({"invoice": craft(prefix="lnbcrt")}, InvoiceCode.NO_AMOUNT),
        ({"invoice": honest(15, currency="bc")}, InvoiceCode.NETWORK),
        ({"invoice": honest(15, currency="tb")}, InvoiceCode.NETWORK),
        ({"invoice": honest(15, created_at=NOW - 601)}, InvoiceCode.EXPIRED),
        ({"invoice": honest(15, created_at=NOW - 580)}, InvoiceCode.EXPIRES_SOON),
        ({"invoice": craft(but(d=groups(b"\xff")), prefix="lnbcrt150n")}, InvoiceCode.DECODERS_DISAGREE),
        ({"invoice": craft(but(d=groups(b"a"), h=groups(b"\x01" * 32)))}, InvoiceCode.MISSING_FIELD),
    ],
)
async def test_a_wrong_ask_is_refused_with_its_own_code(side, changes, code):
    assert await side.refused(replace(await side.ask(), **changes)) is code
    assert side.lightning.moved == []
    assert "pay" not in side.wallet.calls


async def test_an_invoice_above_what_was_agreed_is_refused(side):
    assert await side.refused(await side.ask(16)) is Refusal.ABOVE_TOPUP
    plain = replace(ORDER, topup=None)
    assert await side.refused(await side.ask(6), plain) is Refusal.ABOVE_QUOTE
    assert await side.refused(await side.ask(7), replace(plain, quote=sats(9))) is Refusal.ABOVE_BID
    big = replace(ORDER, topup=sats(10**6))
    assert await side.refused(await side.ask(1_001), big) is Limit.PAYMENT


async def test_a_quote_of_less_than_a_sat_may_be_paid_with_one(side):
    plain = replace(ORDER, topup=None, quote=Msat(4_001), bid=Msat(4_500))
    assert (await side.sender.pay(await side.ask(5), plain)).state is PaymentState.SETTLED


async def test_an_invoice_that_was_paid_is_not_paid_again(side):
    ask = await side.ask()
    await side.sender.pay(ask, ORDER)
    assert await side.refused(ask) is Refusal.HASH_SEEN
    assert await side.refused(replace(ask, job="j2"), replace(ORDER, job="j2")) is Refusal.HASH_SEEN
    assert len(side.lightning.moved) == 1


async def test_a_job_is_paid_once_whatever_invoices_come(side):
    await side.sender.pay(await side.ask(), ORDER)
    assert await side.refused(await side.ask()) is Refusal.JOB_PAID


async def test_a_failed_hash_is_not_tried_again_and_another_invoice_may_be(side):
    side.wallet.next_pay = [WalletCode.INSUFFICIENT_BALANCE]
    ask = await side.ask()
    assert (await side.sender.pay(ask, ORDER)).reason == "insufficient_balance"
    assert await side.refused(ask) is Refusal.HASH_SEEN
    assert (await side.sender.pay(await side.ask(), ORDER)).state is PaymentState.SETTLED


async def test_a_swapped_payee_is_paid_when_a_person_trusted_it_and_not_before(side):
    await side.sender.pay(await side.ask(), ORDER)
    second = replace(ORDER, job="j2")
    swapped = await side.ask(wallet=side.lightning.wallet(OTHER_KEY), job="j2")
    for _ in range(3):
        assert await side.refused(swapped, second) is Refusal.PAYEE_CHANGED
        await side.restart()
    [offer] = await payee_store.offers(side.database)
    async with side.database.transaction() as tx:
        await payee_store.trust(tx, PROVIDER, pinned=offer.pinned, offered=offer.offered, now=NOW)
    assert (await side.sender.pay(swapped, second)).state is PaymentState.SETTLED
    back = await side.ask(job="j3")
    assert await side.refused(back, replace(ORDER, job="j3")) is Refusal.PAYEE_CHANGED


async def test_a_refusal_for_its_payee_names_the_command_for_that_provider(side):
    await side.sender.pay(await side.ask(), ORDER)
    swapped = await side.ask(wallet=side.lightning.wallet(OTHER_KEY), job="j2")
    with pytest.raises(PaymentRefusedError, match=f"pylon wallet trust-payee {nip19.npub(PROVIDER)}`"):
        await side.sender.pay(swapped, replace(ORDER, job="j2"))


async def test_what_is_refused_for_another_reason_offers_no_payee(side):
    await side.sender.pay(await side.ask(), ORDER)
    swapped = await side.ask(wallet=side.lightning.wallet(OTHER_KEY), job="j2")
    second = replace(ORDER, job="j2")
    for bent in (replace(swapped, verified=False), replace(swapped, author=OTHER), replace(swapped, amount=sats(1))):
        await side.refused(bent, second)
    assert await payee_store.offers(side.database) == []


async def test_our_own_invoice_is_never_paid(side):
    ask = await side.ask()
    async with side.database.transaction() as tx:
        await tx.execute("INSERT INTO money_invoice VALUES (?, 'x', 'c', 1, '', 0, 0, 'pending', 0)", (hash_of(ask),))
    assert await side.refused(ask) is Refusal.OWN_INVOICE


async def test_the_stop_file_halts_all_spending(side):
    side.sender = Sender(side.database, side.wallet, replace(POLICY, stopped=lambda: True), side.clock)
    assert await side.refused(await side.ask()) is Refusal.STOPPED


async def test_a_provider_whose_receipts_were_wrong_is_not_paid(side):
    async def see(seq, charged):
        async with side.database.transaction() as tx:
            receipt = AccountReceipt("11" * 8, seq, 1_000, Msat(charged), Msat(0))
            await mirror_store.observe(tx, PROVIDER, Claim(receipt, f"k{seq}", sats(2), NOW, NOW))

    await see(1, 1_000)
    await see(3, 3_000)
    assert await side.refused(await side.ask()) is Refusal.RECEIPTS_PENDING
    await see(2, 2_500)
    assert await side.refused(await side.ask()) is Refusal.RELATION_ENDED


async def test_a_provider_that_does_not_show_our_payment_gets_no_second_one(side):
    await side.sender.pay(await side.ask(), ORDER)

    async def see(seq, paid):
        async with side.database.transaction() as tx:
            receipt = AccountReceipt("11" * 8, seq, 1_000, Msat(seq * 1_000), Msat(paid))
            at = NOW + 60 + seq
            await mirror_store.observe(tx, PROVIDER, Claim(receipt, f"k{seq}", sats(2), at, at))

    await see(1, 1_000)
    second = replace(ORDER, job="j2")
    assert await side.refused(await side.ask(job="j2"), second) is Refusal.CREDIT_MISSING
    await see(2, 15_000)
    assert (await side.sender.pay(await side.ask(job="j2"), second)).state is PaymentState.SETTLED


async def test_a_fee_above_the_limit_is_booked_and_ends_payments_to_that_provider_for_a_day(side):
    side.wallet.fee = int(PLAY_CAPS.fee) + 1
    payment = await side.sender.pay(await side.ask(), ORDER)
    assert payment.state is PaymentState.SETTLED
    assert await ledger_store.balance(side.database, ledger.FEES) == side.wallet.fee
    assert await side.refused(await side.ask(job="j2"), replace(ORDER, job="j2")) is Refusal.FEES
    side.clock.advance(86_401)
    assert (await side.sender.pay(await side.ask(job="j2"), replace(ORDER, job="j2"))).state is PaymentState.SETTLED


async def test_an_absurd_fee_ends_spending_by_its_limit_and_breaks_no_sum(side):
    for number in range(6):
        side.wallet.next_pay = ["lost"]
        side.wallet.fee = MAX_MSAT
        ask = await side.ask(job=f"j{number}")
        order = replace(ORDER, job=ask.job, provider=f"{number:064x}")
        text = decode(ask.invoice or "").text
        async with side.database.transaction() as tx:
            await payment_store.reserve(
                tx, decode(text), Spend(sats(15), sats(1), order.job, order.provider, ""), NOW
            )
            await payment_store.move(tx, hash_of(ask), PaymentState.SENDING, "", NOW)
        await side.wallet.pay(text, fee_limit=sats(1))
    await side.sender.recover()
    settled = await payment_store.in_state(side.database, PaymentState.SETTLED)
    assert [payment.fee for payment in settled] == [sats(100_000_000)] * 6
    assert await side.sender.room("") == Msat(0)
    assert await side.refused(await side.ask(job="j9"), replace(ORDER, job="j9")) is Limit.HOUR


async def test_a_wallet_that_does_not_answer_is_asked_about_one_payment_at_a_time_and_each_has_its_turn(side):
    for number in range(4):
        side.wallet.next_pay, side.wallet.lookup_as = ["lost"], lambda _: Lookup(LookupState.PENDING)
        ask = await side.ask(job=f"j{number}", author=f"{number:064x}")
        await side.sender.pay(ask, replace(ORDER, job=ask.job, provider=ask.author))
    asked = []
    original = side.wallet.lookup

    async def mute(payment_hash, *, since=None):
        asked.append(payment_hash)
        if len(asked) > 3:
            return await original(payment_hash, since=since)
        raise WalletError(WalletCode.TIMEOUT, "no answer")

    side.wallet.lookup, side.wallet.lookup_as = mute, lambda lookup: lookup
    for _ in range(3):
        assert await side.sender.check() == []
    assert len(set(asked)) == len(asked) == 3
    assert len(await side.sender.check()) == 4


async def test_a_reservation_that_could_not_be_sent_is_released_while_the_node_runs(side, monkeypatch):
    async def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    ask = await side.ask()
    with monkeypatch.context() as broken:
        broken.setattr(payment_store, "move", full)
        with pytest.raises(sqlite3.OperationalError):
            await side.sender.pay(ask, ORDER)
    [released] = await side.sender.check()
    assert (released.payment_hash, released.reason) == (hash_of(ask), "never_sent")
    assert (await side.sender.pay(await side.ask(), ORDER)).state is PaymentState.SETTLED
    assert len(side.lightning.moved) == 1


async def test_an_invoice_that_ran_out_while_the_machine_slept_is_not_sent_and_the_next_one_is_paid(
    side, monkeypatch
):
    move = payment_store.move

    async def slept(tx, payment_hash, state, *more):
        moved = await move(tx, payment_hash, state, *more)
        if state is PaymentState.SENDING:
            side.clock.advance(601)
        return moved

    ask = await side.ask()
    with monkeypatch.context() as patched:
        patched.setattr(payment_store, "move", slept)
        payment = await side.sender.pay(ask, ORDER)
    assert (payment.state, payment.reason, side.lightning.moved) == (PaymentState.FAILED, NEVER_SENT, [])
    again = await side.sender.pay(await side.ask(), ORDER)
    assert again.state is PaymentState.SETTLED and side.lightning.moved == [again.payment_hash]
    assert audit.examine(await audit.collect(side.database)) == []


async def test_an_invoice_that_ran_out_while_the_wallet_was_first_asked_is_not_sent(side):
    async def slept():
        side.clock.advance(601)

    side.wallet.ready = slept
    payment = await side.sender.pay(await side.ask(), ORDER)
    assert (payment.state, payment.reason, side.lightning.moved) == (PaymentState.FAILED, NEVER_SENT, [])


async def test_32_asks_at_once_for_one_account_make_one_payment(side):
    asks = [await side.ask(job=f"j{n}") for n in range(32)]
    results = await asyncio.gather(
        *(side.sender.pay(ask, replace(ORDER, job=ask.job)) for ask in asks), return_exceptions=True
    )
    codes = [r.code for r in results if isinstance(r, PaymentRefusedError)]
    assert codes == [Refusal.TOPUP_IN_FLIGHT] * 31
    assert len(side.lightning.moved) == 1


async def test_caps_hold_under_fifty_payments_at_once(side):
    caps = replace(PLAY_CAPS, run=sats(250), in_flight=50)
    side.sender = Sender(side.database, side.wallet, replace(POLICY, caps=caps), side.clock)
    orders = [replace(ORDER, job=f"j{n}", provider=f"{n:064x}") for n in range(50)]
    asks = [await side.ask(job=order.job, author=order.provider) for order in orders]
    results = await asyncio.gather(
        *(side.sender.pay(ask, order) for ask, order in zip(asks, orders, strict=True)), return_exceptions=True
    )
    refusals = [r.code for r in results if isinstance(r, PaymentRefusedError)]
    assert set(refusals) == {Limit.RUN}
    # 15 sat and 10 sat reserved for the fee, each, while they are under way.
    assert 10 <= len(side.lightning.moved) == 50 - len(refusals) <= 16
    assert audit.examine(await audit.collect(side.database)) == []


async def test_an_invoice_named_by_the_owner_is_paid_within_all_limits(side):
    ask = await side.ask(15)
    with pytest.raises(PaymentRefusedError) as caught:
        await side.sender.pay_by_hand(ask.invoice, most=sats(14))
    assert caught.value.code is Refusal.ABOVE_QUOTE
    payment = await side.sender.pay_by_hand(ask.invoice, most=sats(15))
    assert payment.state is PaymentState.SETTLED
    with pytest.raises(PaymentRefusedError) as caught:
        await side.sender.pay_by_hand(ask.invoice, most=sats(15))
    assert caught.value.code is Refusal.HASH_SEEN
    with pytest.raises(PaymentRefusedError) as caught:
        await side.sender.pay_by_hand("junk", most=sats(15))
    assert caught.value.code is InvoiceCode.MALFORMED
    with pytest.raises(PaymentRefusedError) as caught:
        await side.sender.pay_by_hand((await side.ask(2_000)).invoice, most=sats(2_000))
    assert caught.value.code is Limit.PAYMENT
    await side.sender.pay_by_hand((await side.ask(5)).invoice, most=sats(5))
    assert audit.examine(await audit.collect(side.database)) == []
    assert await ledger_store.balance(side.database, ledger.by_hand(payment.payee)) == 20_000
    assert not [name for name in await ledger_store.balances(side.database) if name.startswith("provider:")]


async def test_an_invoice_that_lasts_for_long_is_paid_by_hand_alone(side):
    text = await side.payee.create_invoice(sats(15), description="", expiry_s=7 * 86_400)
    assert await side.refused(replace(await side.ask(), invoice=text)) is InvoiceCode.LASTS
    assert (await side.sender.pay_by_hand(text, most=sats(15))).state is PaymentState.SETTLED


async def test_whoever_was_paid_by_hand_is_no_provider(side):
    await side.sender.pay_by_hand((await side.ask(5)).invoice, most=sats(5))
    side.wallet.next_pay = [WalletCode.INSUFFICIENT_BALANCE]
    assert (await side.sender.pay_by_hand((await side.ask(5)).invoice, most=sats(5))).state is PaymentState.FAILED
    assert await mirror_store.positions(side.database) == {}
    assert await payment_store.unfunded(side.database, since=0) == []
    assert await side.database.fetch_all("SELECT * FROM money_payee") == []


async def test_payments_by_hand_count_in_hours_and_days_and_against_no_provider_or_run(side):
    caps = replace(PLAY_CAPS, provider=sats(20), run=sats(20), hour=sats(60))
    side.sender = Sender(side.database, side.wallet, replace(POLICY, caps=caps), side.clock)
    for _ in range(3):
        assert (await side.sender.pay_by_hand((await side.ask()).invoice, most=sats(15))).state == "settled"
    with pytest.raises(PaymentRefusedError) as caught:
        await side.sender.pay_by_hand((await side.ask(30)).invoice, most=sats(30))
    assert caught.value.code is Limit.HOUR
    assert audit.examine(await audit.collect(side.database)) == []


# --- mainnet --------------------------------------------------------------------------------------------------------


async def test_mainnet_invoices_are_paid_only_after_go_live(tmp_path):
    lightning = FakeLightning(clock(), Network.MAINNET)
    policy = SendPolicy(Network.MAINNET, FIRST.caps, stopped=lambda: False)
    side = await Side(tmp_path, lightning, policy).start()
    ask = await side.ask()
    assert decode(ask.invoice or "").currency == "bc"
    assert await side.refused(ask) is Refusal.NOT_LIVE
    for network in Network:
        if not network.is_live:
            side.sender = Sender(side.database, side.wallet, replace(POLICY, network=network, live=True), side.clock)
            assert await side.refused(ask) is InvoiceCode.NETWORK
    side.sender = Sender(side.database, side.wallet, replace(policy, live=True), side.clock)
    assert (await side.sender.pay(ask, ORDER)).state is PaymentState.SETTLED
    await side.database.close()


# --- not knowing ----------------------------------------------------------------------------------------------------


async def test_a_payment_is_looked_up_as_old_as_its_invoice(side):
    ask = await side.ask()
    side.clock.advance(60)
    side.wallet.next_pay = ["lost"]
    await side.sender.pay(ask, ORDER)
    assert side.wallet.since == NOW


async def test_a_lost_answer_is_settled_by_a_lookup(side):
    side.wallet.next_pay = ["lost"]
    assert (await side.sender.pay(await side.ask(), ORDER)).state is PaymentState.SETTLED
    assert side.wallet.calls.count("pay") == 1


async def test_an_unknown_payment_blocks_its_job_and_its_account_until_it_is_known(side):
    side.wallet.next_pay = ["stuck"]
    payment = await side.sender.pay(await side.ask(), ORDER)
    assert payment.state is PaymentState.UNKNOWN
    assert await side.refused(await side.ask()) is Refusal.JOB_IN_FLIGHT
    assert await side.refused(await side.ask(job="j2"), replace(ORDER, job="j2")) is Refusal.TOPUP_IN_FLIGHT
    assert await side.sender.check() == []
    side.wallet.stuck.clear()
    assert [p.state for p in await side.sender.check()] == [PaymentState.SETTLED]
    assert await side.sender.check() == []
    assert len(side.lightning.moved) == 1


@pytest.mark.parametrize("way", ["unsent", "internal"])
async def test_a_request_that_never_arrived_fails_only_when_its_invoice_cannot_be_paid_any_more(side, way):
    side.wallet.next_pay = [way]
    side.wallet.lookup_as = lambda lookup: Lookup(LookupState.NOT_FOUND)
    assert (await side.sender.pay(await side.ask(), ORDER)).state is PaymentState.UNKNOWN
    side.clock.advance(600 + ARRIVAL_GRACE_S - 1)
    assert await side.sender.check() == []
    side.clock.advance(2)
    assert [(p.state, p.reason) for p in await side.sender.check()] == [(PaymentState.FAILED, "never_arrived")]


async def test_a_failure_that_the_wallet_reports_is_looked_up_before_it_is_believed(side):
    side.wallet.next_pay = ["failed", "failed"]
    ask = await side.ask()
    side.wallet.move(hash_of(ask))  # the payment went through after all
    assert (await side.sender.pay(ask, ORDER)).state is PaymentState.SETTLED
    second = await side.ask(job="j2")
    side.wallet.lookup_as = lambda lookup: Lookup(LookupState.FAILED)
    payment = await side.sender.pay(second, replace(ORDER, job="j2"))
    assert (payment.state, payment.reason) == (PaymentState.FAILED, "lookup_failed")


@pytest.mark.parametrize("said", [LookupState.UNSETTLED, LookupState.NOT_FOUND, LookupState.EXPIRED])
async def test_a_payment_that_the_wallet_reports_failed_and_makes_after_all_is_not_made_twice(side, said):
    side.wallet.next_pay = ["failed"]
    side.wallet.lookup_as = lambda lookup: Lookup(said)
    ask = await side.ask()
    assert (await side.sender.pay(ask, ORDER)).state is PaymentState.UNKNOWN
    assert await side.refused(await side.ask()) is Refusal.JOB_IN_FLIGHT
    side.wallet.move(hash_of(ask))
    side.wallet.lookup_as = lambda lookup: lookup
    assert [p.state for p in await side.sender.check()] == [PaymentState.SETTLED]
    assert side.lightning.moved == [hash_of(ask)]


async def test_the_audit_names_a_payment_that_was_presumed_failed_and_made_after_all(side):
    side.wallet.next_pay = ["failed"]
    ask = await side.ask()
    await side.sender.pay(ask, ORDER)
    side.clock.advance(10_000)
    assert [p.reason for p in await side.sender.check()] == ["never_arrived"]
    books = await audit.collect(side.database)
    assert await audit.compare_with_wallet(side.wallet, books) == []
    assert await side.refused(await side.ask()) is Refusal.JOB_IN_FLIGHT
    side.wallet.move(hash_of(ask))
    assert [f.code for f in await audit.compare_with_wallet(side.wallet, books)] == ["paid_after_all"]
    side.wallet.down = True
    assert [f.code for f in await audit.compare_with_wallet(side.wallet, books)] == ["wallet_silent"]


async def test_a_wallet_that_says_paid_and_is_not_is_not_believed(side):
    side.wallet.next_pay = ["lie"]
    payment = await side.sender.pay(await side.ask(), ORDER)
    assert (payment.state, payment.reason) == (PaymentState.UNKNOWN, "preimage_wrong")
    side.wallet.lookup_as = lambda lookup: Lookup(LookupState.SETTLED, preimage="ab" * 32)
    assert await side.sender.check() == []
    side.wallet.lookup_as = lambda lookup: Lookup(LookupState.SETTLED)
    assert await side.sender.check() == []
    assert await ledger_store.balance(side.database, ledger.provider(PROVIDER)) == 0


async def test_a_wallet_that_is_down_fails_the_payment_and_nothing_is_reserved_any_more(side):
    side.wallet.down = True
    payment = await side.sender.pay(await side.ask(), ORDER)
    assert (payment.state, payment.reason) == (PaymentState.FAILED, "wallet_unreachable")


async def test_a_cancelled_caller_does_not_lose_the_answer(side):
    gate = asyncio.Event()
    original = side.wallet.pay

    async def slow(invoice, *, fee_limit):
        await gate.wait()
        return await original(invoice, fee_limit=fee_limit)

    side.wallet.pay = slow
    task = asyncio.create_task(side.sender.pay(await side.ask(), ORDER))
    while not await payment_store.in_state(side.database, PaymentState.SENDING):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    await side.sender.close()
    assert len(await payment_store.in_state(side.database, PaymentState.SETTLED)) == 1


async def test_what_a_payment_fails_with_after_its_caller_left_is_told(side, monkeypatch, caplog):
    gate, sent = asyncio.Event(), asyncio.Event()

    async def breaks(invoice, *, fee_limit):
        sent.set()
        await gate.wait()
        raise KeyError("broken")

    monkeypatch.setattr(side.wallet, "pay", breaks)
    task = asyncio.create_task(side.sender.pay(await side.ask(), ORDER))
    await sent.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    await side.sender.close()
    assert "a payment failed" in caplog.text
    assert "broken" in caplog.text


async def test_a_refusal_is_told_to_its_caller_alone(side, caplog):
    await side.refused(await side.ask(verified=False))
    assert "a payment failed" not in caplog.text


async def test_what_a_caller_reserved_who_was_cancelled_meanwhile_is_lifted(side, monkeypatch):
    gate, reserved, reserve = asyncio.Event(), asyncio.Event(), side.sender._reserve

    async def slow(ask, order, hands):
        payment = await reserve(ask, order, hands)
        reserved.set()
        await gate.wait()
        return payment

    monkeypatch.setattr(side.sender, "_reserve", slow)
    task = asyncio.create_task(side.sender.pay(await side.ask(), ORDER))
    await reserved.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    await asyncio.sleep(0)
    await side.sender.close()
    assert not await payment_store.in_state(side.database, PaymentState.RESERVED)
    assert len(await payment_store.in_state(side.database, PaymentState.FAILED)) == 1


async def test_what_became_of_a_payment_is_told_once_to_whoever_made_it_though_others_look_it_up(side):
    gate, paid, original = asyncio.Event(), asyncio.Event(), side.wallet.pay

    async def slow(invoice, *, fee_limit):
        result = await original(invoice, fee_limit=fee_limit)
        paid.set()
        await gate.wait()
        return result

    side.wallet.pay = slow
    task = asyncio.create_task(side.sender.pay(await side.ask(), ORDER))
    await paid.wait()
    # The wallet has paid it, and its answer is on the way.
    told = await side.sender.check()
    gate.set()
    assert (await task).state is PaymentState.SETTLED
    assert [*told, *await side.sender.check(), *await side.sender.recover()] == []


async def test_an_invoice_that_is_refused_beside_its_payment_leaves_that_in_hand(side):
    gate, original = asyncio.Event(), side.wallet.pay

    async def slow(invoice, *, fee_limit):
        await gate.wait()
        return await original(invoice, fee_limit=fee_limit)

    side.wallet.pay = slow
    ask = await side.ask()
    task = asyncio.create_task(side.sender.pay(ask, ORDER))
    while not await payment_store.in_state(side.database, PaymentState.SENDING):
        await asyncio.sleep(0)
    with pytest.raises(PaymentRefusedError):
        await side.sender.pay(ask, ORDER)
    await side.sender.recover()
    sending = await payment_store.in_state(side.database, PaymentState.SENDING)
    gate.set()
    assert (await task).state is PaymentState.SETTLED
    assert [payment.invoice for payment in sending] == [ask.invoice]


# --- dying ----------------------------------------------------------------------------------------------------------


async def test_a_process_that_dies_after_reserving_has_paid_nothing(side):
    async def die(payment):
        raise SystemError("killed")

    side.sender._send = die
    with pytest.raises(SystemError):
        await side.sender.pay(await side.ask(), ORDER)
    await side.restart()
    await side.sender.recover()
    [payment] = await payment_store.in_state(side.database, PaymentState.FAILED)
    assert payment.reason == "never_sent"
    assert (await side.sender.pay(await side.ask(), ORDER)).state is PaymentState.SETTLED


@pytest.mark.parametrize("paid", [True, False])
async def test_a_process_that_dies_while_sending_looks_up_and_never_pays_again(side, paid):
    ask = await side.ask()

    async def die(invoice, *, fee_limit):
        if paid:
            side.wallet.move(hash_of(ask))
        raise SystemError("killed")

    side.wallet.pay = die
    with pytest.raises(SystemError):
        await side.sender.pay(ask, ORDER)
    del side.wallet.pay
    await side.restart()
    side.wallet.lookup_as = lambda lookup: (
        lookup if lookup.state is LookupState.SETTLED else Lookup(LookupState.NOT_FOUND)
    )
    ended = await side.sender.recover()
    assert [p.state for p in ended] == ([PaymentState.SETTLED] if paid else [])
    assert await side.refused(await side.ask()) is (Refusal.JOB_PAID if paid else Refusal.JOB_IN_FLIGHT)
    side.clock.advance(2_000)
    ended = await side.sender.check()
    assert [p.state for p in ended] == ([] if paid else [PaymentState.FAILED])
    assert len(side.lightning.moved) == paid
    assert "pay" not in side.wallet.calls
    assert audit.examine(await audit.collect(side.database)) == []


async def test_nothing_is_sent_of_a_reservation_that_was_ended_meanwhile(side):
    payment = await side.sender._reserve(await side.ask(), ORDER, ExitStack())
    async with side.database.transaction() as tx:
        await payment_store.move(tx, payment.payment_hash, PaymentState.FAILED, "never_sent", NOW)
    with pytest.raises(IllegalStepError):
        await side.sender._send(payment)
    assert "pay" not in side.wallet.calls
    assert side.lightning.moved == []


async def test_what_has_ended_cannot_change_in_the_database(side):
    payment = await side.sender.pay(await side.ask(), ORDER)
    async with side.database.transaction() as tx:
        with pytest.raises(IllegalStepError):
            await payment_store.move(tx, payment.payment_hash, PaymentState.FAILED, "no", NOW)
        assert not await payment_store.settle(tx, payment.payment_hash, "00", sats(0), NOW)
    assert (await payment_store.get(side.database, payment.payment_hash)) == payment
    with pytest.raises(MoneyError):
        await payment_store.get(side.database, "00")


@pytest.mark.parametrize(
    ("lookup", "late", "state"),
    [
        (Lookup(LookupState.FAILED), False, PaymentState.FAILED),
        (Lookup(LookupState.PENDING), True, PaymentState.UNKNOWN),
        (Lookup(LookupState.NOT_FOUND), False, PaymentState.UNKNOWN),
        (Lookup(LookupState.NOT_FOUND), True, PaymentState.FAILED),
        (Lookup(LookupState.EXPIRED), False, PaymentState.UNKNOWN),
        (Lookup(LookupState.EXPIRED), True, PaymentState.FAILED),
        (Lookup(LookupState.UNSETTLED), False, PaymentState.UNKNOWN),
        (Lookup(LookupState.UNSETTLED), True, PaymentState.UNKNOWN),
        (Lookup(LookupState.SETTLED, preimage="zz"), True, PaymentState.UNKNOWN),
    ],
)
def test_what_a_lookup_makes_of_a_payment(lookup, late, state):
    now = NOW + (ARRIVAL_GRACE_S + 1 if late else 0)
    assert resolve(lookup, SENT, now).state is state


def test_a_wallet_that_cannot_tell_failed_from_under_way_is_asked_for_an_hour():
    lookup = Lookup(LookupState.UNSETTLED)
    for seconds, state in ((UNSETTLED_GRACE_S, PaymentState.UNKNOWN), (UNSETTLED_GRACE_S + 1, PaymentState.FAILED)):
        assert resolve(lookup, SENT, NOW + seconds).state is state


async def test_a_payment_presumed_failed_that_was_made_after_all_is_no_fault_of_the_providers(side):
    side.wallet.next_pay = ["late"]
    await side.sender.pay(await side.ask(), ORDER)
    side.clock.advance(2_000)
    [payment] = await side.sender.check()
    assert payment.reason in PRESUMED_FAILED
    async with side.database.transaction() as tx:
        receipt = AccountReceipt("11" * 8, 1, 1_000, Msat(1_000), Msat(15_000))
        now = side.clock.wall()
        step = await mirror_store.observe(tx, PROVIDER, Claim(receipt, "k1", sats(2), now, now))
    assert step.mirror.ended is None


# --- a clock that jumps ---------------------------------------------------------------------------------------------

YEAR_S = 365 * 86_400.0


@pytest.fixture
async def tight(tmp_path):
    """A side whose limits of hour and day one payment uses up."""
    caps = replace(PLAY_CAPS, hour=sats(30), day=sats(30))
    side = await Side(tmp_path, FakeLightning(clock()), replace(POLICY, caps=caps)).start()
    yield side
    await side.sender.close()
    await side.database.close()


async def test_what_was_paid_while_the_date_was_a_year_ahead_uses_up_no_limit_once_it_is_right(tight):
    other = replace(ORDER, job="j2")
    tight.clock.set_by(YEAR_S)
    tight.wallet.fee = 2 * PLAY_CAPS.fee
    await tight.sender.pay(await tight.ask(1), replace(ORDER, topup=sats(1)))
    assert await tight.refused(await tight.ask(job="j2"), other) is Refusal.FEES
    tight.clock.set_by(-YEAR_S)
    assert (await tight.sender.pay(await tight.ask(job="j2"), other)).state is PaymentState.SETTLED


@pytest.mark.parametrize("back", [3_000, 3_700, 40_000])
async def test_what_was_paid_before_the_clock_was_set_back_some_hours_counts(tight, back):
    await tight.sender.pay(await tight.ask(), ORDER)
    tight.clock.set_by(-back)
    assert await tight.refused(await tight.ask(job="j2"), replace(ORDER, job="j2")) is Limit.HOUR


@pytest.mark.parametrize("said", [LookupState.UNSETTLED, LookupState.NOT_FOUND])
@pytest.mark.parametrize("jump", [YEAR_S, 86_400, -3_600, -YEAR_S])
async def test_a_clock_that_is_set_neither_ends_a_payment_that_is_under_way_nor_keeps_it_open(side, said, jump):
    side.wallet.next_pay = ["unsent"]
    side.wallet.lookup_as = lambda lookup: Lookup(said)
    ask = await side.ask()
    await side.sender.pay(ask, ORDER)
    side.clock.set_by(jump)
    assert await side.sender.check() == []
    with pytest.raises(DecisionRefusedError):
        await side.sender.decide(hash_of(ask), Decision(paid=False))
    side.clock.advance(600 + UNSETTLED_GRACE_S + 1)
    assert [p.state for p in await side.sender.check()] == [PaymentState.FAILED]
