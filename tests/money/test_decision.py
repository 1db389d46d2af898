"""A payment that no wallet tells of: what its owner may decide, and what is in the books after that."""

import asyncio
import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import MoneyError
from pylon.money import audit
from pylon.money.accounts import mirror_store
from pylon.money.books import ledger
from pylon.money.books import store as ledger_store
from pylon.money.msat import ZERO, Msat
from pylon.money.payment import ARRIVAL_GRACE_S, DECIDED, Refusal
from pylon.money.payments import store as payment_store
from pylon.money.payments.decision import Decision, DecisionRefusedError, Undecidable, judge
from pylon.money.states import PaymentState
from pylon.money.wallet import Lookup, WalletCode, WalletError
from tests.money.fakes import FakeLightning, clock
from tests.money.test_sender import ORDER, PROVIDER, SENT, Side, hash_of, sats

PREIMAGE = b"\x05" * 32
HASH = hashlib.sha256(PREIMAGE).hexdigest()
PAID, NOT_PAID = Decision(paid=True), Decision(paid=False)
# After this nothing that was held up can arrive.
OVER_S = 600 + ARRIVAL_GRACE_S + 1


@pytest.fixture
async def side(tmp_path):
    side = await Side(tmp_path, FakeLightning(clock())).start()

    def silent(found: Lookup) -> Lookup:
        raise WalletError(WalletCode.NOT_IMPLEMENTED, "looks up nothing")

    side.wallet.lookup_as = silent
    yield side
    await side.sender.close()
    await side.database.close()


async def lost(side, way: str = "lost") -> str:
    """A payment whose answer was lost, of which this wallet will never tell; its hash."""
    side.wallet.next_pay = [way]
    ask = await side.ask()
    assert (await side.sender.pay(ask, ORDER)).state is PaymentState.UNKNOWN
    return hash_of(ask)


async def refused(side, payment: str, decision: Decision) -> Undecidable:
    before = await side.rows(), await ledger_store.entries(side.database)
    with pytest.raises(DecisionRefusedError) as caught:
        await side.sender.decide(payment, decision)
    assert (await side.rows(), await ledger_store.entries(side.database)) == before
    assert caught.value.code.value in str(caught.value)
    return caught.value.code


def preimage_of(side, payment: str) -> str:
    return side.lightning.slips[payment].preimage.hex()


# --- the decider ----------------------------------------------------------------------------------------------------


@given(
    paid=st.booleans(), proof=st.sampled_from(["", PREIMAGE.hex(), "05" * 31, "zz", "06" * 32]),
    fee=st.integers(0, 20_000), state=st.sampled_from(PaymentState),
    reason=st.sampled_from(["", DECIDED, "never_arrived"]), left=st.integers(-5_000, 5_000),
)  # fmt: skip
def test_nothing_is_written_but_on_an_unknown_payment_with_a_proof_that_fits_or_too_late_to_arrive(
    paid, proof, fee, state, reason, left
):
    decision = Decision(paid, proof, Msat(fee))
    try:
        payment = replace(
            SENT, state=state, reason=reason, payment_hash=HASH, amount=Msat(10_000), expires_at=100_000.0 + left
        )
        writes = judge(decision, payment, 100_000.0)
    except DecisionRefusedError:
        return
    assert proof in ("", PREIMAGE.hex()) and (paid or not proof)
    if writes:
        assert state is PaymentState.UNKNOWN and fee <= 10_000
        assert paid or left + ARRIVAL_GRACE_S < 0
    else:
        assert reason == DECIDED
        assert state is (PaymentState.SETTLED if paid else PaymentState.FAILED)


@pytest.mark.parametrize("state", [one for one in PaymentState if one is not PaymentState.UNKNOWN])
def test_what_is_not_unknown_is_refused_with_what_it_is(state):
    with pytest.raises(DecisionRefusedError, match=r"this payment is (in progress|paid|not paid)") as caught:
        judge(PAID, replace(SENT, state=state), 1e9)
    assert caught.value.code is Undecidable.NOT_UNKNOWN and caught.value.hint


def test_when_it_may_be_said_is_told_as_a_date():
    with pytest.raises(DecisionRefusedError) as caught:
        payment = replace(SENT, state=PaymentState.UNKNOWN, expires_at=1_800_000_000.0)
        judge(NOT_PAID, payment, 1_799_000_000.0)
    assert caught.value.hint == "Try again after 2027-01-15 08:10:00 UTC."


# --- the books ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proof", [True, False])
async def test_what_its_owner_says_was_paid_is_settled_booked_once_and_kept_as_decided(side, proof):
    payment = await lost(side)
    decision = Decision(paid=True, preimage=preimage_of(side, payment) if proof else "", fee=sats(1))
    decided = await side.sender.decide(payment, decision)
    assert (decided.changed, decided.by_wallet) == (True, False)
    assert (decided.payment.state, decided.payment.fee, decided.payment.decided) == ("settled", sats(1), True)
    assert bool(decided.payment.preimage) is proof
    assert await ledger_store.balance(side.database, ledger.provider(PROVIDER)) == 15_000
    assert await ledger_store.balance(side.database, ledger.WALLET) == -16_000
    assert audit.examine(await audit.collect(side.database)) == []
    assert [one.payment_hash for one in await payment_store.decided(side.database)] == [payment]
    assert await audit.compare_with_wallet(side.wallet, await audit.collect(side.database)) == []
    # Whoever waits for it hears of it from the next check, once.
    assert [one.payment_hash for one in await side.sender.check()] == [payment]
    assert await side.sender.check() == []
    # Said again, after a crash too, it changes nothing; said otherwise it is refused.
    await side.restart()
    again = await side.sender.decide(payment, decision)
    assert (again.changed, again.payment) == (False, decided.payment)
    side.clock.advance(OVER_S)
    assert await refused(side, payment, NOT_PAID) is Undecidable.NOT_UNKNOWN
    assert await side.refused(await side.ask()) is Refusal.JOB_PAID


async def test_what_its_owner_says_was_not_paid_frees_its_money_and_its_job_is_never_paid_again(side):
    payment = await lost(side, "unsent")
    assert await side.refused(await side.ask(job="j2"), replace(ORDER, job="j2")) is Refusal.TOPUP_IN_FLIGHT
    side.clock.advance(OVER_S)
    decided = await side.sender.decide(payment, NOT_PAID)
    assert (decided.payment.state, decided.payment.reason) == (PaymentState.FAILED, DECIDED)
    assert (await payment_store.used_now(side.database, side.clock.wall())).all == ZERO
    assert (await side.sender.decide(payment, NOT_PAID)).changed is False
    assert await refused(side, payment, PAID) is Undecidable.NOT_UNKNOWN
    assert await side.refused(await side.ask()) is Refusal.JOB_IN_FLIGHT
    assert (await side.sender.pay(await side.ask(job="j2"), replace(ORDER, job="j2"))).state is PaymentState.SETTLED
    books = await audit.collect(side.database)
    assert audit.examine(books) == []
    # That the wallet does not tell is nothing new of what was decided, and a finding for the other one.
    assert [one.code for one in await audit.compare_with_wallet(side.wallet, books)] == ["wallet_silent"]
    # Where it was wrong, an audit finds that out as soon as the wallet tells.
    side.wallet.lookup_as = lambda found: found
    side.wallet.move(payment)
    assert [one.code for one in await audit.compare_with_wallet(side.wallet, books)] == ["paid_after_all"]


async def test_not_paid_is_not_taken_while_a_request_that_was_held_up_may_arrive(side):
    payment = await lost(side, "unsent")
    side.clock.advance(600 + ARRIVAL_GRACE_S)
    assert await refused(side, payment, NOT_PAID) is Undecidable.MAY_ARRIVE
    side.clock.advance(1)
    assert (await side.sender.decide(payment, NOT_PAID)).changed


async def test_a_preimage_that_does_not_fit_decides_nothing_not_even_when_said_again(side):
    payment = await lost(side)
    for preimage in ("ab" * 32, "zz", PREIMAGE.hex()):
        assert await refused(side, payment, Decision(paid=True, preimage=preimage)) is Undecidable.PREIMAGE
    assert await refused(side, payment, replace(NOT_PAID, preimage="ab" * 32)) is Undecidable.PREIMAGE
    assert await refused(side, payment, replace(PAID, fee=sats(16))) is Undecidable.FEE
    await side.sender.decide(payment, PAID)
    assert await refused(side, payment, Decision(paid=True, preimage="ab" * 32)) is Undecidable.PREIMAGE
    with pytest.raises(MoneyError, match="no such payment"):
        await side.sender.decide("00" * 32, PAID)


@pytest.mark.parametrize("said", [PAID, NOT_PAID])
async def test_a_wallet_that_tells_at_last_is_believed_before_its_owner(side, said):
    payment = await lost(side)
    side.wallet.lookup_as = lambda found: found
    side.clock.advance(OVER_S)
    if said is NOT_PAID:
        with pytest.raises(DecisionRefusedError, match="paid, which its preimage proves"):
            await side.sender.decide(payment, said)
    else:
        decided = await side.sender.decide(payment, said)
        assert (decided.changed, decided.by_wallet) == (True, True)
    row = await payment_store.get(side.database, payment)
    assert (row.state, row.decided, row.preimage) == (PaymentState.SETTLED, False, preimage_of(side, payment))
    assert [one.payment_hash for one in await side.sender.check()] == [payment]


async def test_a_payment_that_is_being_sent_is_not_decided(side):
    gate, asked = asyncio.Event(), asyncio.Event()
    original = side.wallet.pay

    async def slow(invoice, *, fee_limit):
        asked.set()
        await gate.wait()
        return await original(invoice, fee_limit=fee_limit)

    side.wallet.pay = slow
    ask = await side.ask()
    paying = asyncio.create_task(side.sender.pay(ask, ORDER))
    await asked.wait()
    assert await refused(side, hash_of(ask), Decision(paid=True, preimage=preimage_of(side, hash_of(ask)))) is (
        Undecidable.NOT_UNKNOWN
    )
    # Nor does whoever takes up what dead processes left touch it.
    await side.sender.recover()
    assert (await payment_store.get(side.database, hash_of(ask))).state is PaymentState.SENDING
    gate.set()
    assert (await paying).state is PaymentState.SETTLED


async def test_a_payment_is_not_decided_while_who_sent_it_still_looks_it_up(side):
    gate, asked = asyncio.Event(), asyncio.Event()

    async def slow(payment_hash, *, since=None):
        asked.set()
        await gate.wait()
        raise WalletError(WalletCode.NOT_IMPLEMENTED, "looks up nothing")

    side.wallet.lookup, side.wallet.next_pay = slow, ["failed"]
    ask = await side.ask()
    paying = asyncio.create_task(side.sender.pay(ask, ORDER))
    await asked.wait()
    proven = Decision(paid=True, preimage=preimage_of(side, hash_of(ask)))
    assert await refused(side, hash_of(ask), proven) is Undecidable.NOT_UNKNOWN
    gate.set()
    assert (await paying).state is PaymentState.UNKNOWN
    assert (await side.sender.decide(hash_of(ask), proven)).changed


async def test_an_owners_word_waits_for_a_lookup_that_is_under_way(side):
    payment = await lost(side)
    side.clock.advance(OVER_S)
    gate, asked, original = asyncio.Event(), asyncio.Event(), side.wallet.lookup

    async def slow_once(payment_hash, *, since=None):
        if asked.is_set():
            raise WalletError(WalletCode.NOT_IMPLEMENTED, "looks up nothing")
        asked.set()
        await gate.wait()
        return await original(payment_hash, since=since)

    side.wallet.lookup, side.wallet.lookup_as = slow_once, lambda found: found
    checking = asyncio.create_task(side.sender.check())
    await asked.wait()
    deciding = asyncio.create_task(side.sender.decide(payment, NOT_PAID))
    await asyncio.sleep(0.1)
    assert not deciding.done()
    gate.set()
    assert [one.state for one in await checking] == [PaymentState.SETTLED]
    with pytest.raises(DecisionRefusedError, match="this payment is paid"):
        await deciding


async def test_a_decision_that_dies_in_the_middle_leaves_nothing(side, monkeypatch):
    payment = await lost(side)

    async def die(tx, entries):
        raise SystemError("killed")

    with monkeypatch.context() as patched:
        patched.setattr("pylon.money.payments.outcome.book", die)
        with pytest.raises(SystemError):
            await side.sender.decide(payment, PAID)
    assert (await payment_store.get(side.database, payment)).state is PaymentState.UNKNOWN
    await side.restart()
    await side.sender.recover()
    assert (await side.sender.decide(payment, PAID)).changed
    assert audit.examine(await audit.collect(side.database)) == []


async def test_what_was_being_sent_by_a_process_that_died_can_be_decided(side):
    ask = await side.ask()

    async def die(invoice, *, fee_limit):
        raise SystemError("killed")

    side.wallet.pay = die
    with pytest.raises(SystemError):
        await side.sender.pay(ask, ORDER)
    await side.restart()
    await side.sender.recover()
    assert await payment_store.unknown(side.database) == (1, sats(25))
    assert (await side.sender.decide(hash_of(ask), Decision(True, preimage_of(side, hash_of(ask))))).changed


async def test_a_decided_payment_by_hand_is_booked_to_its_payee(side):
    side.wallet.next_pay = ["lost"]
    payment = await side.sender.pay_by_hand((await side.ask()).invoice, most=sats(15))
    assert payment.state is PaymentState.UNKNOWN
    await side.sender.decide(payment.payment_hash, PAID)
    assert await ledger_store.balance(side.database, ledger.by_hand(payment.payee)) == 15_000
    assert audit.examine(await audit.collect(side.database)) == []


async def test_what_was_said_to_be_unpaid_may_still_show_in_a_receipt(side):
    payment = await lost(side)
    side.clock.advance(OVER_S)
    await side.sender.decide(payment, NOT_PAID)
    known = await mirror_store.paid(side.database, PROVIDER)
    assert (known.settled, known.maybe) == (ZERO, sats(15))
