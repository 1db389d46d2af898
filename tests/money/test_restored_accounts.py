"""Accounts in books that were restored from a copy, while the other side went on."""

import pytest

from pylon.money import audit
from pylon.money.accounts import mirror_store, restored
from pylon.money.accounts import orders as order_store
from pylon.money.accounts import store as account_store
from pylon.money.accounts.account import Agreement
from pylon.money.accounts.following import MAX_WAITING
from pylon.money.accounts.mirror import CREDIT_PATIENCE_S, PATIENCE_S, Fault, Outcome
from pylon.money.accounts.receipt import AccountReceipt, AccountSeen
from pylon.money.books import ledger
from pylon.money.books import store as ledger_store
from pylon.money.msat import MAX_MSAT, ZERO, Msat
from pylon.money.payment import BY_HAND, LOOKUP_FAILED
from pylon.money.payments import store as payment_store
from pylon.money.states import PaymentState
from pylon.store import marks
from tests.money.accounts import load, open_account
from tests.money.craft import NOW
from tests.money.test_gaps import order, ticked
from tests.money.test_mirror import E1, Claim, claim, see
from tests.money.test_mirror import database as database


async def restore(database):
    async with database.transaction() as tx:
        await restored.begin_epochs(tx, NOW)
        await restored.forget_mirrors(tx, NOW)
        await marks.begin(tx, NOW)


async def wait(database):
    async with database.transaction() as tx:
        return await mirror_store.tick(tx, "pp", NOW + PATIENCE_S)


def later(seq: int, charged: int, paid: int) -> Claim:
    """A receipt of a provider to which we paid, and which worked for us, after the copy."""
    return claim(seq, 1_000, charged, paid)


async def test_a_provider_that_was_paid_after_the_copy_is_taken_up_where_it_says_that_it_stands(database):
    await see(database, claim(1))
    await see(database, claim(2))
    await restore(database)
    assert await ledger_store.balance(database, ledger.provider("pp")) == 0
    assert audit.examine(await audit.collect(database)) == []
    # It was paid 30 sat more and charged 37 in all; ours know of 10 and 2.
    assert (await see(database, later(30, 38_000, 40_000))).mirror.ended is None
    assert (await wait(database)).mirror.ended is None
    assert await ledger_store.balance(database, ledger.provider("pp")) == 2_000
    assert (await see(database, later(31, 39_000, 40_000))).mirror.ended is None
    assert await ledger_store.balance(database, ledger.provider("pp")) == 1_000
    assert audit.examine(await audit.collect(database)) == []


async def test_books_that_do_not_know_that_they_are_a_copy_end_the_same_relation(database):
    await see(database, claim(1))
    await see(database, claim(2))
    # As would receipts that are missing, of jobs that the books know nothing of.
    assert (await see(database, later(3, 3_000, 40_000))).mirror.ended is Fault.WRONG_PAID


async def test_a_provider_that_we_owe_is_owed_the_same(database):
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO money_mirror VALUES ('cc', ?, '', 2, 3000, 0, 0, 0, NULL, 0, 0, 0)", (E1,))
        await ledger_store.book(tx, ledger.work_received(NOW, "cc", "cc/1", 3_000))
    await restore(database)
    assert await ledger_store.balance(database, ledger.provider("cc")) == -3_000
    assert audit.examine(await audit.collect(database)) == []


async def test_what_waited_and_what_was_ordered_before_the_copy_opens_no_account_in_the_past(database):
    await see(database, claim(1))
    await see(database, claim(3))
    await order(database, "j9", NOW)
    await restore(database)
    assert (await mirror_store.load(database, "pp")).waiting == ()
    assert await order_store.unanswered(database, since=0) == []


async def test_a_relation_that_had_ended_stays_so(database):
    await see(database, claim(1))
    await see(database, claim(2, 1_000, 1_000))
    await restore(database)
    assert (await mirror_store.load(database, "pp")).ended is Fault.WRONG_SUM
    assert await ledger_store.balance(database, ledger.provider("pp")) == 9_000


async def test_it_can_be_restored_again(database):
    for seq in (1, 2, 3):
        await see(database, claim(1, epoch=f"{seq:016x}"))
        async with database.transaction() as tx:
            await restored.forget_mirrors(tx, NOW + seq)
    assert audit.examine(await audit.collect(database)) == []


async def test_no_number_is_signed_twice_to_a_customer_that_has_seen_less_than_was_signed(database):
    async with database.transaction() as tx:
        await open_account(tx, "cc", NOW)
        epoch = (await load(tx, "cc")).epoch
        receipts = [AccountReceipt(epoch, seq, 100, Msat(100 * seq), Msat(0)) for seq in (1, 2)]
        await account_store._write(tx, [("cc", f"j{one.seq}", one, NOW) for one in receipts])
        await ledger_store.book(tx, [ledger.charged(NOW, "cc", f"j{seq}", Msat(100)) for seq in (1, 2)])
    await restore(database)
    async with database.transaction() as tx:
        account = await load(tx, "cc")
        assert (account.epoch != epoch, account.seq, account.charged_total) == (True, 0, 200)
        # It had seen the first alone, and the original may have signed a third.
        assert (
            await account_store.acknowledge(tx, "cc", AccountSeen(epoch, 1, Msat(100)), NOW) is Agreement.OTHER_EPOCH
        )
    assert audit.examine(await audit.collect(database)) == []


@pytest.mark.parametrize("paid", [10_000, 25_000, 40_000])
@pytest.mark.parametrize("seen", [1, 2, 5])
async def test_whatever_an_honest_provider_charged_and_was_paid_since_its_account_goes_on(database, seen, paid):
    for seq in range(1, seen + 1):
        await see(database, claim(seq))
    await restore(database)
    for seq in range(9, 11):
        await see(database, later(seq, seq * 1_000, paid))
    assert (await wait(database)).mirror.ended is None
    assert await ledger_store.balance(database, ledger.provider("pp")) == paid - 10_000
    assert audit.examine(await audit.collect(database)) == []


LATER = NOW + 2 * CREDIT_PATIENCE_S


async def take_up(database, one: Claim):
    await see(database, one)
    async with database.transaction() as tx:
        return await mirror_store.tick(tx, "pp", one.at + PATIENCE_S)


async def pays(database, state: str) -> None:
    async with database.transaction() as tx:
        await tx.execute(
            "INSERT INTO money_payment VALUES ('h2', 'j', 'pp', 'r', 5000, 0, NULL, 'i', 'y', 0, ?, NULL, '', ?, ?)",
            (state, NOW, NOW),
        )


async def ends(database, state: PaymentState, at: float) -> None:
    async with database.transaction() as tx:
        if (await payment_store.get(tx, "h2")).state is PaymentState.RESERVED:
            await payment_store.move(tx, "h2", PaymentState.SENDING, "", at)
        if state is PaymentState.FAILED:
            await payment_store.move(tx, "h2", state, LOOKUP_FAILED, at)
        else:
            await payment_store.settle(tx, "h2", "", ZERO, at)
            await ledger_store.book(tx, ledger.topup_paid(at, "pp", "h2", Msat(5_000), ZERO))


@pytest.mark.parametrize("first", [1, 9])
async def test_a_deposit_that_no_receipt_spoke_of_in_the_copy_was_spent_since(database, first):
    await restore(database)
    assert await ledger_store.balance(database, ledger.provider("pp")) == 0
    # It worked for 8 sat, and long ago: its account was never short of a payment.
    assert (await take_up(database, claim(first, 1_000, 8_000, 10_000, at=LATER))).mirror.ended is None
    after = (await see(database, claim(first + 1, 1_000, 9_000, 10_000, at=LATER))).mirror
    assert (after.ended, after.short) == (None, False)
    assert await ledger_store.balance(database, ledger.provider("pp")) == 1_000
    assert audit.examine(await audit.collect(database)) == []


async def test_one_result_that_is_lost_after_it_is_forgiven_as_ever(database):
    await restore(database)
    await take_up(database, claim(9, 1_000, 8_000, 10_000, at=LATER))
    await order(database, "j10", LATER)
    step = await take_up(database, claim(11, 1_000, 10_000, 10_000, at=LATER))
    assert (step.mirror.ended, bool(step.mirror.suspended_until)) == (None, True)


@pytest.mark.parametrize("known", ["before its first receipt", "while that waits"])
@pytest.mark.parametrize("end", [PaymentState.SETTLED, PaymentState.FAILED])
@pytest.mark.parametrize("state", ["reserved", "sending", "unknown"])
async def test_a_payment_that_is_open_in_the_copy_was_spent_if_it_was_paid(database, state, end, known):
    for seq in range(1, 11):
        await see(database, claim(seq))
    await pays(database, state)
    await restore(database)
    assert audit.examine(await audit.collect(database)) == []
    paid = 15_000 if end is PaymentState.SETTLED else 10_000
    first = claim(13, 1_000, paid - 1_000, paid, at=LATER)
    if known == "while that waits":
        waits = (await take_up(database, first)).mirror
        assert (waits.epoch, waits.skipped_to, len(waits.waiting)) == ("", 0, 1)
    await ends(database, end, LATER)
    assert (await take_up(database, first)).mirror.epoch == E1
    # And later than any patience.
    late = LATER + 2 * CREDIT_PATIENCE_S
    after = (await see(database, claim(14, 500, paid - 500, paid, at=late))).mirror
    assert (after.ended, after.short) == (None, False)
    assert await ledger_store.balance(database, ledger.provider("pp")) == 500
    assert audit.examine(await audit.collect(database)) == []


async def test_nothing_is_made_of_invoices_that_the_owner_gave_and_of_payments_that_failed(database):
    async with database.transaction() as tx:
        for number, (provider, state) in enumerate({f"{BY_HAND}yy": "sending", "qq": "failed"}.items()):
            await tx.execute(
                "INSERT INTO money_payment VALUES (?, ?, ?, 'r', 5, 0, NULL, 'i', 'y', 0, ?, NULL, '', 0, 0)",
                (f"x{number}", f"x{number}", provider, state),
            )
    await restore(database)
    assert [row[0] for row in await database.fetch_all("SELECT provider FROM money_mirror")] == ["pp"]


async def test_totals_of_a_provider_that_are_as_large_as_any_keep_no_account_from_being_forgotten(database):
    await see(database, claim(1, 1_000, MAX_MSAT, MAX_MSAT))
    await pays(database, "sending")
    await ends(database, PaymentState.SETTLED, NOW)
    await restore(database)
    mirror = await mirror_store.load(database, "pp")
    assert (mirror.epoch, mirror.forgotten) == ("", True)
    assert await ledger_store.balance(database, ledger.provider("pp")) == 0
    assert audit.examine(await audit.collect(database)) == []


@pytest.mark.parametrize("missing", [1, 3])
async def test_a_request_that_went_out_after_the_copy_and_is_answered_between_ours_ends_nothing(database, missing):
    for seq in range(1, 6):
        await see(database, claim(seq))
    await restore(database)
    await take_up(database, claim(41, 100, 7_000, 10_000, at=NOW))
    at = NOW + 2 * PATIENCE_S
    await order(database, "ours", at)
    last = 42 + missing
    charged = 7_000 + 100 * (missing + 1)
    await see(database, claim(last, 100, charged, 10_000, at=at))
    step = await ticked(database, at + PATIENCE_S)
    assert (step.mirror.ended, step.mirror.suspended_until, step.mirror.seq) == (None, 0.0, last)
    assert step.lost == 100 * missing
    # It was not left alone: what it was given and did not answer yet may be answered.
    assert [one.job for one in await order_store.unanswered(database, since=0)] == ["ours"]
    assert await ledger_store.balance(database, ledger.provider("pp")) == 10_000 - charged
    assert audit.examine(await audit.collect(database)) == []


async def test_once_no_request_from_before_can_be_answered_a_gap_is_judged_by_what_was_ordered(database):
    await see(database, claim(1))
    await restore(database)
    at = NOW + order_store.KEEP_S
    await take_up(database, claim(41, 100, 7_000, 10_000, at=at))
    step = await take_up(database, claim(43, 100, 7_200, 10_000, at=at))
    assert step.mirror.ended is Fault.GAP


async def test_gaps_after_a_restore_charge_no_more_than_answers_did(database):
    await restore(database)
    await take_up(database, claim(41, 1_000, 7_000, 10_000, at=NOW))
    step = await take_up(database, claim(43, 100, 9_101, 10_000, at=NOW))
    assert step.mirror.ended is Fault.GAP


async def test_of_more_receipts_than_can_wait_for_a_payment_of_the_copy_the_last_ones_wait(database):
    await see(database, claim(1))
    await pays(database, "unknown")
    await restore(database)
    async with database.transaction() as tx:
        await tx.execute_many(
            "INSERT INTO money_waiting VALUES ('pp', ?, ?, ?, 2000, 1, ?, 15000, ?, ?)",
            [(E1, seq, f"j{seq}", seq, NOW, NOW) for seq in range(2, MAX_WAITING + 2)],
        )
    last = MAX_WAITING + 2
    step = await see(database, claim(last, 1, last, 15_000, at=NOW + 1))
    assert (step.outcome, step.mirror.ended) == (Outcome.PENDING, None)
    assert [one.receipt.seq for one in step.mirror.waiting] == [*range(3, last + 1)]
    await ends(database, PaymentState.SETTLED, LATER)
    assert (await ticked(database, LATER)).mirror.seq == last
    assert await ledger_store.balance(database, ledger.provider("pp")) == 15_000 - last
    assert audit.examine(await audit.collect(database)) == []
