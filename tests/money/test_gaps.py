"""Receipts that are missing: what lost results may explain, what that costs, and when it is over."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pylon.clock import BELIEVED_S
from pylon.money import audit
from pylon.money.accounts import mirror_store
from pylon.money.accounts import orders as order_store
from pylon.money.accounts.following import end, observe
from pylon.money.accounts.gaps import SUSPENSION_S, Gap, is_due, may_be_lost, tick
from pylon.money.accounts.mirror import PATIENCE_S, Claim, Fault, Mirror, Outcome, Step, balance
from pylon.money.accounts.orders import Ordered
from pylon.money.accounts.receipt import AccountReceipt
from pylon.money.accounts.usage import Bounds
from pylon.money.books import ledger
from pylon.money.books import store as ledger_store
from pylon.money.msat import MAX_MSAT, ZERO, Msat
from pylon.money.price import Price
from tests.money.craft import NOW
from tests.money.test_mirror import E1, E2, PAID, QUOTE, after, claim, see
from tests.money.test_mirror import database as database

OVER = NOW + PATIENCE_S
BACK = OVER + SUSPENSION_S


def passes(mirror: Mirror, now: float, quotes: Sequence[int] | None = ()) -> Step:
    """Time passes, of an account that began with its first receipt."""
    return tick(mirror, PAID, now, quotes, answered=int(mirror.charged_total) - int(mirror.lost))


def suspended(*quotes: int) -> Mirror:
    """Of four receipts the second is missing."""
    step = passes(after(claim(1), claim(3), claim(4)), OVER, quotes)
    assert step.mirror.ended is None
    return step.mirror


def test_a_gap_that_lost_results_may_explain_suspends_and_then_the_account_goes_on():
    mirror = suspended(2_000)
    assert mirror.suspended_until == BACK
    assert passes(mirror, BACK - 1, [2_000]).mirror == mirror
    step = passes(mirror, BACK, [2_000])
    assert [one.receipt.seq for one in step.booked] == [3, 4]
    assert (step.lost, balance(step.mirror, PAID)) == (1_000, 6_000)
    assert (step.mirror.suspended_until, step.mirror.waiting, step.mirror.lost) == (0.0, (), 1_000)
    assert after(claim(5), mirror=step.mirror).seq == 5


def test_what_was_missing_and_comes_in_time_ends_the_suspension():
    mirror = after(claim(2), mirror=suspended(2_000))
    assert (mirror.seq, mirror.suspended_until, mirror.lost) == (4, 0.0, 0)


def test_what_comes_after_that_is_in_the_books_already():
    mirror = passes(suspended(2_000), BACK, [2_000]).mirror
    late = observe(mirror, claim(2), PAID)
    assert (late.outcome, late.mirror, late.booked) == (Outcome.STALE, mirror, ())


def test_a_clock_that_is_set_back_makes_no_suspension_longer():
    mirror = suspended(2_000)
    assert not is_due(mirror, OVER)
    assert is_due(mirror, OVER - 86_400)


@pytest.mark.parametrize(
    ("quotes", "receipts"),
    [
        pytest.param((), (1, 3, 4), id="nothing was ordered"),
        pytest.param((999,), (1, 3, 4), id="it charged more than what was ordered may cost"),
        pytest.param((2_000,), (1, 4), id="it charged more often than was ordered"),
        pytest.param((2_000, 2_000, 2_000), (1, 5), id="it charged more without an answer than with one"),
    ],
)
def test_a_gap_that_lost_results_do_not_explain_ends_the_relation(quotes, receipts):
    mirror = after(*map(claim, receipts))
    assert passes(mirror, OVER, quotes).mirror.ended is Fault.GAP


def test_a_gap_that_grew_while_its_provider_was_left_alone_is_judged_anew():
    mirror = after(claim(7), mirror=suspended(2_000))
    assert passes(mirror, BACK, [2_000]).mirror.ended is Fault.GAP


def test_totals_that_fall_within_a_gap_are_a_fault():
    # Together the two gaps charge nothing, the second one less than nothing.
    mirror = after(claim(1), claim(3, 1_000, 5_000), claim(5, 1_000, 4_000))
    mirror = passes(mirror, OVER, [2_000, 2_000]).mirror
    assert passes(mirror, BACK, [2_000, 2_000]).mirror.ended is Fault.WRONG_SUM


def test_a_gap_before_an_account_that_opened_anew_ends_the_relation():
    mirror = after(claim(1), claim(2, epoch=E2))
    assert passes(mirror, OVER, [2_000] * 9).mirror.ended is Fault.GAP


def test_what_comes_late_of_before_an_account_was_taken_up_is_in_the_total_that_was():
    mirror = passes(after(claim(9), claim(10)), OVER).mirror
    assert (mirror.seq, mirror.skipped_to) == (10, 8)
    late = observe(mirror, claim(8), PAID)
    assert (late.outcome, late.mirror, late.booked) == (Outcome.STALE, mirror, ())


def test_an_account_is_taken_up_at_the_last_receipts_in_a_row_and_those_before_them_are_booked():
    waits = after(claim(3), claim(5), claim(8), claim(9))
    step = passes(waits, OVER)
    assert [one.receipt.seq for one in step.booked] == [3, 5, 8, 9]
    assert (step.mirror.seq, step.mirror.skipped_to, step.mirror.waiting) == (9, 7, ())
    assert (balance(step.mirror, PAID), step.found) == (6_000, 0)
    assert observe(step.mirror, claim(6), PAID).outcome is Outcome.STALE


def test_what_is_given_back_at_the_end_of_all_amounts_is_a_fault_of_whoever_gives_it():
    most = MAX_MSAT
    mirror = after(Claim(AccountReceipt(E1, 1, 1_000, Msat(most), Msat(most)), "j1", QUOTE, NOW, NOW))
    mirror = after(Claim(AccountReceipt(E1, 3, -1_000, Msat(most), Msat(most)), "j3", QUOTE, NOW, NOW), mirror=mirror)
    mirror = tick(mirror, PAID, OVER, [2_000], answered=3_000).mirror
    assert tick(mirror, PAID, BACK, [2_000], answered=3_000).mirror.ended is Fault.WRONG_SUM


amounts = st.integers(0, 5_000)


@given(st.integers(0, 6), st.integers(-9, 20_000), st.lists(amounts, max_size=6), amounts, amounts)
def test_no_gap_is_larger_than_what_was_ordered_or_than_what_was_answered(receipts, msat, quotes, lost, answered):
    if may_be_lost(Gap(receipts, msat), quotes, lost=lost, answered=answered):
        assert 0 <= msat <= sum(quotes)
        assert receipts <= len(quotes)
        assert lost + msat <= answered


jobs = st.lists(st.tuples(st.integers(0, 2_000), st.booleans(), st.booleans(), st.floats(0, 300)), max_size=25)


# Two receipts come in a row when others before them were missing for a minute: the account is taken up there.
_TAKEN_UP = [
    *[(0, False, False, 0.0)] * 2, (0, True, False, 0.0), (0, True, False, 60.0), (0, False, False, 0.0),
    (0, True, False, 0.0), (1, True, False, 60.0), *[(0, False, False, 200.0)] * 2, (0, True, False, 116.0),
]  # fmt: skip


@example(_TAKEN_UP, 1, 0, True)
@example(
    [(1_000, True, False, 0.0), *[(1_000, False, False, 0.0)] * 9, (1_000, True, False, 299.0)] * 2, 0, 10**9, True
)
@given(jobs, st.integers(0, 500), st.sampled_from([0, 1, 10**9, MAX_MSAT // 2]), st.booleans())
def test_in_any_history_the_books_hold_and_no_more_is_lost_than_is_answered(history, adds, said, known):
    """Jobs that are charged, of which some results are lost, and some come late; `adds` is charged beside them.

    The account says at first that it had charged `said` before, and was paid as much more. Unless `known`, nobody
    remembers all that was ordered.
    """
    mirror, now, total, accepted, lost, found = Mirror(), float(NOW), said, 0, 0, 0
    open_quotes: dict[int, int] = {}
    late: list[Claim] = []
    for seq, (charge, comes, comes_late, wait) in enumerate(history, 1):
        now += wait
        total += charge + (adds if not comes else 0)
        receipt = AccountReceipt(E1, seq, charge, Msat(total), Msat(said + 10_000))
        one = Claim(receipt, f"j{seq}", QUOTE, NOW, now)
        if not comes:
            open_quotes[seq] = int(QUOTE)
            late += [one] * comes_late
            continue
        steps = [observe(mirror, one, PAID)]
        came = accepted + sum(c.receipt.charge_msat for c in steps[0].booked)
        quotes = list(open_quotes.values()) if known else None
        steps.append(tick(steps[0].mirror, PAID, now, quotes, answered=came))
        if late and wait > 150:
            steps.append(observe(steps[1].mirror, late.pop(0), PAID))
        for step in steps:
            accepted += sum(c.receipt.charge_msat for c in step.booked)
            lost += int(step.lost)
            found += int(step.found)
            before, mirror = mirror, step.mirror
            if step.mirror.skipped_to != before.skipped_to:
                open_quotes.clear()
    assert balance(mirror, PAID) == 10_000 + found - accepted - lost
    assert lost == mirror.lost <= accepted
    assert accepted + lost <= total - said


async def order(database, job: str, at: float, quote: int = 2_000):
    price = Price(Msat(1_000), ZERO, ZERO)
    ordered = Ordered(job, "pp", 5940, Msat(quote), price, Bounds(10, 10), at)
    async with database.transaction() as tx:
        await tx.execute(order_store.INSERT, ordered.row)


async def test_orders_grow_old_by_the_dates_of_later_ones_and_not_by_a_date_far_ahead(database):
    async def left(now: float) -> list[str]:
        async with database.transaction() as tx:
            await order_store.forget_old(tx, now=now)
        return [one.job for one in await order_store.unanswered(database, since=0.0)]

    later = NOW + order_store.KEEP_S + 1
    await order(database, "old", NOW)
    assert await left(NOW + 365 * BELIEVED_S) == ["old"]
    await order(database, "new", later)
    assert await left(later + BELIEVED_S - 1) == ["old", "new"]
    assert await left(later + BELIEVED_S) == ["new"]


async def ticked(database, now: float):
    async with database.transaction() as tx:
        return await mirror_store.tick(tx, "pp", now)


async def test_a_closed_gap_is_in_the_books_and_what_was_ordered_explains_no_other(database):
    for job in ("j1", "j2", "j3", "x"):
        await order(database, job, NOW)
    await see(database, claim(1))
    await see(database, claim(3))
    assert (await ticked(database, OVER)).mirror.suspended_until == BACK
    assert (await mirror_store.positions(database))["pp"].suspended
    assert (await ticked(database, BACK - 1)).lost == 0
    step = await ticked(database, BACK)
    assert (step.lost, await mirror_store.load(database, "pp")) == (1_000, step.mirror)
    assert await ledger_store.balance(database, ledger.provider("pp")) == 7_000
    assert await mirror_store.waiting_providers(database) == []
    assert (await see(database, claim(2))).outcome is Outcome.STALE
    await see(database, claim(4))
    await see(database, claim(6, at=BACK))
    assert (await ticked(database, BACK + PATIENCE_S)).mirror.ended is Fault.GAP
    assert audit.examine(await audit.collect(database)) == []


async def test_an_account_that_is_taken_up_leaves_its_provider_at_work(database):
    await order(database, "j10", OVER - 1)
    await see(database, claim(9))
    assert (await ticked(database, OVER)).mirror.skipped_to == 8
    assert (await see(database, claim(8))).outcome is Outcome.STALE
    await see(database, claim(11, at=OVER))
    assert (await ticked(database, OVER + PATIENCE_S)).mirror.suspended_until


def test_of_more_orders_than_receipts_are_missing_the_dearest_may_be_those_that_were_lost():
    assert may_be_lost(Gap(1, 2_000), [500, 2_000, 700], lost=0, answered=2_000)
    assert not may_be_lost(Gap(1, 2_001), [500, 2_000, 700], lost=0, answered=9_000)


def test_a_suspension_lasts_while_anything_is_missing_whatever_else_comes():
    assert after(claim(6), mirror=suspended(2_000)).suspended_until == BACK


async def test_a_clock_that_is_set_back_lets_a_provider_wait_for_a_minute_and_not_for_hours(database):
    ahead = NOW + 7_200.0
    await order(database, "j2", ahead)
    await see(database, claim(1, at=ahead))
    await see(database, claim(3, at=ahead))
    assert not (await ticked(database, NOW)).mirror.suspended_until
    assert not (await ticked(database, OVER - 1)).mirror.suspended_until
    assert (await ticked(database, OVER)).mirror.suspended_until == BACK


def test_time_changes_nothing_of_a_relation_that_ended():
    ended = end(suspended(2_000), Fault.NEW_EPOCH)
    step = passes(ended, BACK, [2_000])
    assert (step.mirror, step.outcome, step.booked, step.lost) == (ended, Outcome.REFUSED, (), 0)


def test_an_account_that_closed_a_gap_can_open_anew():
    mirror = passes(suspended(2_000), BACK, [2_000]).mirror
    step = observe(mirror, claim(1, 1_000, 5_000, epoch=E2), PAID)
    assert (step.outcome, step.mirror.epoch) == (Outcome.ACCEPTED, E2)


@pytest.mark.parametrize("said", [0, 10**12])
async def test_what_a_provider_says_that_it_charged_before_pays_for_no_gap(database, said):
    """Of each ten jobs one is answered, and all ten are charged."""

    def charges(seq: int, at: float) -> Claim:
        return claim(seq, 100, said + 100 * seq, said + 10_000, at=at, quote=Msat(100))

    await see(database, charges(1, NOW))
    at = NOW + 10.0
    for seq in (11, 21, 31):
        for number in range(10):
            await order(database, f"{seq}-{number}", at, quote=100)
        await see(database, charges(seq, at))
        for wait in (PATIENCE_S, PATIENCE_S + SUSPENSION_S):
            step = await ticked(database, at + wait)
        at += 2 * SUSPENSION_S
    assert (step.mirror.ended, step.mirror.lost) == (Fault.GAP, 0)
