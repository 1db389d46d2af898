from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.money import audit
from pylon.money.accounts import mirror_store
from pylon.money.accounts import orders as order_store
from pylon.money.accounts.following import MAX_FOUND, MAX_WAITING, observe
from pylon.money.accounts.gaps import tick
from pylon.money.accounts.mirror import (
    CREDIT_PATIENCE_S,
    PATIENCE_S,
    Claim,
    Fault,
    Mirror,
    Outcome,
    Paid,
    balance,
    looks_back_to,
)
from pylon.money.accounts.receipt import AccountReceipt
from pylon.money.accounts.usage import UsageFault
from pylon.money.books import ledger
from pylon.money.books import store as ledger_store
from pylon.money.msat import MAX_MSAT, ZERO, Msat
from pylon.money.schema import MONEY
from pylon.store.database import Database, Schema
from tests.money.craft import NOW
from tests.money.fakes import open_database

E1, E2 = "11" * 8, "22" * 8
QUOTE = Msat(2_000)
PAID = Paid(Msat(10_000), ((NOW - 1.0, Msat(10_000)),))


def receipt(seq: int, charge: int = 1_000, charged: int | None = None, paid: int = 10_000, epoch: str = E1):
    return AccountReceipt(epoch, seq, charge, Msat(seq * 1_000 if charged is None else charged), Msat(paid))


def claim(seq: int, *args: int, at: float = NOW, quote: Msat = QUOTE, job: str = "", **more: object) -> Claim:
    return Claim(receipt(seq, *args, **more), job or f"j{seq}", quote, at, at)  # type: ignore[arg-type]


def after(*claims: Claim, paid: Paid = PAID, mirror: Mirror | None = None) -> Mirror:
    mirror = mirror or Mirror()
    for one in claims:
        step = observe(mirror, one, paid)
        assert step.outcome is not Outcome.REFUSED, step
        mirror = step.mirror
    return mirror


def refused(mirror: Mirror, one: Claim, paid: Paid = PAID, **more: object) -> Fault | None:
    step = observe(mirror, one, paid, **more)  # type: ignore[arg-type]
    assert step.outcome is Outcome.REFUSED
    assert step.booked == ()
    assert observe(step.mirror, claim(2), paid).outcome is Outcome.REFUSED
    return step.mirror.ended


def test_receipts_in_order_are_accepted():
    mirror = after(claim(1), claim(2), claim(3))
    assert (mirror.seq, mirror.charged_total, balance(mirror, PAID)) == (3, 3_000, 7_000)
    assert mirror.seen is not None
    assert mirror.seen.to_tag() == ("account-seen", E1, "3", "3000")


@given(st.permutations(range(1, 9)))
def test_receipts_in_any_order_end_the_same(order):
    mirror = after(*(claim(seq) for seq in order))
    assert (mirror.seq, mirror.charged_total, mirror.waiting, mirror.ended) == (8, 8_000, (), None)


def test_a_gap_is_pending_and_stops_payments_until_it_is_filled():
    mirror = after(claim(1))
    step = observe(mirror, claim(3), PAID)
    assert step.outcome is Outcome.PENDING
    assert step.mirror.waiting
    step = observe(step.mirror, claim(2), PAID)
    assert [c.receipt.seq for c in step.booked] == [2, 3]
    assert not step.mirror.waiting


def test_a_gap_that_stays_unexplained_ends_the_relation():
    mirror = after(claim(1), claim(3))
    assert tick(mirror, PAID, NOW + PATIENCE_S - 1).mirror.ended is None
    assert tick(mirror, PAID, NOW + PATIENCE_S).mirror.ended is Fault.GAP


def test_a_wrong_sum_ends_the_relation():
    assert refused(after(claim(1)), claim(2, 1_000, 2_001)) is Fault.WRONG_SUM
    assert refused(after(claim(1)), claim(2, 1_000, 1_999)) is Fault.WRONG_SUM


def test_a_replayed_seq_ends_the_relation_and_a_repeated_event_does_not():
    mirror = after(claim(1), claim(2))
    known = (receipt(2), "j2")
    assert observe(mirror, claim(2), PAID, known=known).outcome is Outcome.DUPLICATE
    assert refused(mirror, claim(2, 500, 1_500), known=known) is Fault.REPLAYED
    assert refused(mirror, claim(2, job="other"), known=known) is Fault.REPLAYED


def test_two_receipts_with_one_seq_are_seen_while_they_wait():
    mirror = after(claim(3))
    assert observe(mirror, claim(3), PAID).outcome is Outcome.DUPLICATE
    assert refused(mirror, claim(3, 999)) is Fault.REPLAYED


def test_a_charge_above_the_quote_ends_the_relation():
    assert refused(Mirror(), claim(1, 2_001, 2_001)) is Fault.OVER_QUOTE


def test_several_charges_for_one_job_stay_within_its_quote():
    mirror = after(claim(1, job="j"))
    assert refused(mirror, claim(2, 1_500, 2_500, job="j"), job_charged=1_000) is Fault.OVER_QUOTE
    waiting = after(claim(1), claim(3, 1_500, 3_500, job="j"))
    assert refused(waiting, claim(4, 1_000, 4_500, job="j")) is Fault.OVER_QUOTE


def test_a_new_epoch_that_forgets_our_money_ends_the_relation():
    mirror = after(claim(1))
    assert refused(mirror, claim(1, 1_000, 1_000, 0, epoch=E2)) is Fault.NEW_EPOCH


def test_a_new_epoch_that_keeps_our_money_is_taken_up():
    mirror = after(claim(1), claim(2))
    step = observe(mirror, claim(1, 1_000, 3_000, epoch=E2), PAID)
    assert step.outcome is Outcome.ACCEPTED
    assert step.found == 0
    assert balance(step.mirror, PAID) == 7_000
    assert observe(step.mirror, claim(3), PAID).outcome is Outcome.STALE
    assert observe(step.mirror, claim(2, 500, 3_500, epoch=E2), PAID).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize(
    ("mirror", "opens"),
    [
        (Mirror(), receipt(1, 1_000, 0, MAX_MSAT)),
        (Mirror(), receipt(1, 1_000, 999, 10_000)),
        # What they say that we have, and what we owe them, is together more than there will ever be.
        (after(claim(1), paid=Paid()), receipt(1, 1, 1, MAX_MSAT, epoch=E2)),
    ],
)
def test_totals_that_cannot_be_end_the_relation(mirror, opens):
    wrong = Claim(opens, "opens", QUOTE, NOW, NOW)
    assert refused(mirror, wrong, Paid()) in (Fault.WRONG_SUM, Fault.WRONG_PAID)


@given(
    st.integers(-MAX_MSAT, MAX_MSAT), st.integers(0, MAX_MSAT), st.integers(0, MAX_MSAT), st.integers(0, MAX_MSAT),
    st.integers(1, 3), st.sampled_from([E1, E2]),
)  # fmt: skip
def test_whatever_a_provider_signs_is_judged(charge, charged, paid, ours, seq, epoch):
    sent = Paid(Msat(ours), ((NOW - 1.0, Msat(ours)),))
    one = Claim(AccountReceipt(epoch, seq, charge, Msat(charged), Msat(paid)), "one", Msat(MAX_MSAT), NOW, NOW)
    for mirror in (Mirror(), after(claim(1, 1_000, 1_000, 0), paid=Paid())):
        step = observe(mirror, one, sent)
        assert step.outcome in Outcome
        balance(step.mirror, sent)


def test_a_new_epoch_that_forgets_our_debt_is_credit_found():
    owing = after(claim(1, paid=0), claim(2, paid=0), paid=Paid())
    step = observe(owing, claim(1, 1_000, 1_000, 0, epoch=E2), Paid())
    assert (step.outcome, step.found) == (Outcome.ACCEPTED, Msat(2_000))
    assert balance(step.mirror, Paid()) == -1_000


def test_an_account_older_than_our_memory_is_taken_up_after_a_minute_when_it_costs_nothing():
    mirror = after(claim(57, 1_000, 9_000, 9_500), paid=Paid())
    assert mirror.waiting
    step = tick(mirror, Paid(), NOW + PATIENCE_S)
    assert (step.mirror.seq, step.mirror.ended, step.found) == (57, None, Msat(1_500))
    assert balance(step.mirror, Paid()) == 500


def test_a_debt_that_we_never_made_is_not_taken_up():
    mirror = after(claim(57, 1_000, 9_000, 0), paid=Paid())
    assert tick(mirror, Paid(), NOW + PATIENCE_S).mirror.ended is Fault.WRONG_SUM
    assert refused(Mirror(), claim(1, 1_000, 5_000, 0), Paid()) is Fault.WRONG_SUM


def test_a_receipt_may_be_signed_before_our_payment_is_in():
    mirror = after(claim(1, paid=0), paid=Paid())
    mirror = after(claim(2, paid=0, at=NOW + PATIENCE_S - 2), mirror=mirror)
    assert not mirror.short
    assert tick(mirror, PAID, NOW + 10 * PATIENCE_S).mirror == mirror
    assert after(claim(3, at=NOW + 9_999), mirror=mirror).paid_seen == 10_000


def test_nothing_more_is_paid_while_a_payment_is_missing_in_receipts_and_after_an_hour_the_relation_ends():
    mirror = after(claim(1, paid=0), paid=Paid())
    short = after(claim(2, paid=0, at=NOW + PATIENCE_S), mirror=mirror)
    assert short.short
    assert not after(claim(3, at=NOW + 100), mirror=short).short
    assert refused(short, claim(3, paid=0, at=NOW + CREDIT_PATIENCE_S)) is Fault.NOT_CREDITED


def test_an_account_that_opens_without_our_payment_is_not_paid_again():
    assert not after(claim(1, paid=0)).short
    assert after(claim(1, paid=0, at=NOW + PATIENCE_S)).short
    assert refused(Mirror(), claim(1, paid=0, at=NOW + CREDIT_PATIENCE_S)) is Fault.NOT_CREDITED


def test_charges_hidden_before_an_account_is_taken_up_show_as_credit_that_is_missing():
    mirror = after(claim(2, 1_000, 6_000, 10_000))
    mirror = tick(mirror, PAID, NOW + PATIENCE_S).mirror
    assert (mirror.ended, balance(mirror, PAID)) == (None, 9_000)
    assert after(claim(3, 1_000, 7_000, 10_000, at=NOW + PATIENCE_S), mirror=mirror).short


def test_a_paid_total_that_falls_or_that_nobody_paid_ends_the_relation():
    assert refused(after(claim(1)), claim(2, paid=9_000)) is Fault.WRONG_PAID
    assert refused(after(claim(1)), claim(2, paid=10_001)) is Fault.WRONG_PAID


def test_a_payment_whose_outcome_we_do_not_know_may_show_in_a_receipt():
    maybe = Paid(maybe=Msat(10_000))
    mirror = after(claim(1), paid=maybe)
    mirror = after(claim(2), paid=PAID, mirror=mirror)
    assert balance(mirror, PAID) == 8_000


def test_what_a_provider_gives_back_is_left_with_it_and_makes_no_room_above_a_quote():
    mirror = after(claim(1), claim(2, -1_000, 0, job="j1"))
    assert balance(mirror, PAID) == 10_000
    dearer = claim(3, int(QUOTE) + 1, int(QUOTE) + 1)
    assert observe(mirror, dearer, PAID, job_charged=-5_000).mirror.ended is Fault.OVER_QUOTE


@given(
    st.lists(
        st.tuples(
            st.integers(1, 6), st.integers(-2_000, 3_000), st.integers(0, 9_000), st.integers(0, 12_000),
            st.sampled_from([E1, E2]), st.integers(0, 90),
        ),
        max_size=12,
    )
)  # fmt: skip
def test_no_provider_can_make_us_owe_more_than_our_quotes(noise):
    mirror, now, accepted, found = Mirror(), float(NOW), 0, 0
    for number, (seq, charge, charged, paid, epoch, wait) in enumerate(noise):
        now += wait
        receipt = AccountReceipt(epoch, seq, charge, Msat(charged), Msat(paid))
        step = observe(mirror, Claim(receipt, f"j{number}", QUOTE, now, now), PAID)
        for done in (step, tick(step.mirror, PAID, now)):
            found += int(done.found)
            accepted += sum(c.receipt.charge_msat for c in done.booked)
            assert all(c.receipt.charge_msat <= QUOTE for c in done.booked)
            mirror = done.mirror
    assert balance(mirror, PAID) == 10_000 - accepted + found


@given(
    st.lists(st.tuples(st.floats(NOW - 20_000, NOW + 100), st.integers(1, 10**6).map(Msat))),
    st.lists(st.floats(NOW - 9_000, NOW), min_size=1, max_size=4),
)
def test_what_was_paid_by_when_a_receipt_was_signed_is_known_of_the_recent_payments_alone(payments, signed):
    claims = [replace(claim(n), signed_at=at) for n, at in enumerate(signed, 1)]
    recent = tuple((at, amount) for at, amount in payments if at > looks_back_to(claims))
    paid = Paid(Msat(sum(amount for _, amount in payments)), recent)
    for at in signed:
        for by in (at - PATIENCE_S, at - CREDIT_PATIENCE_S):
            assert paid.settled_by(by) == sum(amount for when, amount in payments if when <= by)


def test_more_than_a_bitcoin_is_not_given_back_at_once():
    rich = after(claim(1, 0, 3 * MAX_FOUND, 3 * MAX_FOUND), paid=Paid())
    assert refused(rich, claim(2, -MAX_FOUND - 1, 2 * MAX_FOUND - 1, 3 * MAX_FOUND), Paid()) is Fault.WRONG_SUM
    assert observe(rich, claim(2, -MAX_FOUND, 2 * MAX_FOUND, 3 * MAX_FOUND), Paid()).booked


# --- the same in the database ---------------------------------------------------------------------------------------


@pytest.fixture
async def database(tmp_path):
    database = await open_database(tmp_path)
    async with database.transaction() as tx:
        await tx.execute(
            "INSERT INTO money_payment VALUES"
            " ('h', 'j0', 'pp', 'r', 10000, 0, 0, 'i', 'y', 0, 'settled', 'p', '', 0, 1790000000)"
        )
        await ledger_store.book(tx, ledger.topup_paid(NOW, "pp", "h", Msat(10_000), ZERO))
    yield database
    await database.close()


async def see(database, one: Claim):
    async with database.transaction() as tx:
        return await mirror_store.observe(tx, "pp", one)


async def test_accepted_receipts_are_booked_and_waiting_ones_survive_a_restart(database):
    assert (await see(database, claim(1))).outcome is Outcome.ACCEPTED
    assert (await see(database, claim(3))).outcome is Outcome.PENDING
    assert await mirror_store.waiting_providers(database) == ["pp"]
    mirror = await mirror_store.load(database, "pp")
    assert [c.receipt.seq for c in mirror.waiting] == [3]
    assert (await see(database, claim(2))).mirror.seq == 3
    assert (await see(database, claim(2))).outcome is Outcome.DUPLICATE
    assert await ledger_store.balance(database, ledger.provider("pp")) == 7_000
    assert await mirror_store.waiting_providers(database) == []
    assert audit.examine(await audit.collect(database)) == []


async def test_an_ended_relation_stays_ended(database):
    await see(database, claim(1))
    assert (await see(database, claim(2, 1_000, 1_000))).mirror.ended is Fault.WRONG_SUM
    assert (await mirror_store.load(database, "pp")).ended is Fault.WRONG_SUM
    assert (await see(database, claim(2))).outcome is Outcome.REFUSED
    assert await ledger_store.balance(database, ledger.provider("pp")) == 9_000


async def test_one_receipt_for_two_jobs_is_seen_after_a_restart(database):
    await see(database, claim(1))
    assert (await see(database, replace(claim(1), job="other"))).mirror.ended is Fault.REPLAYED


async def test_a_job_is_not_charged_twice_across_receipts(database):
    await see(database, claim(1, 1_500, 1_500, job="j"))
    assert (await see(database, claim(2, 1_000, 2_500, job="j"))).mirror.ended is Fault.OVER_QUOTE


@pytest.mark.parametrize("again", [False, True])
async def test_a_fault_in_what_brought_a_receipt_ends_the_relation_once_the_receipt_is_booked(database, again):
    one = claim(1)
    if again:
        await see(database, one)
    async with database.transaction() as tx:
        step = await mirror_store.observe(tx, "pp", one, fault=UsageFault.CHARGE)
    assert step.outcome is (Outcome.DUPLICATE if again else Outcome.ACCEPTED)
    assert step.mirror.ended is UsageFault.CHARGE
    assert await mirror_store.load(database, "pp") == step.mirror
    assert await ledger_store.balance(database, ledger.provider("pp")) == 9_000
    assert (await see(database, claim(2))).outcome is Outcome.REFUSED


async def test_what_jobs_cost_is_the_sum_of_their_receipts(database):
    for one in (claim(1, job="a"), claim(2, job="b"), claim(3, -1_000, 1_000, job="a")):
        await see(database, one)
    assert await mirror_store.charged(database, [*"abc", *map(str, range(600))]) == {"a": 0, "b": 1_000}


async def test_what_is_given_back_for_a_job_beyond_its_cost_pays_for_no_other_job(database):
    for one in (claim(1, job="a"), claim(2, -900, 100, job="b"), claim(3, 500, 600, job="c")):
        assert (await see(database, one)).mirror.ended is None
    assert await mirror_store.charged(database, ["b", "c"]) == {"b": 0, "c": 500}


async def test_what_receipts_charge_that_wait_is_left_with_their_provider_no_more(database):
    await see(database, claim(1))
    assert (await mirror_store.positions(database))["pp"].balance == 9_000
    await see(database, claim(3, 700))
    position = (await mirror_store.positions(database))["pp"]
    assert (position.balance, position.asked, position.suspended, position.ended) == (8_300, True, False, None)


async def test_what_a_provider_gives_back_is_in_the_books(database):
    for one in (claim(1, job="a"), claim(2, -1_000, 0, job="a"), claim(3, -4_000, 0, job="b")):
        step = await see(database, one)
    # The last one's total does not follow: nobody has charged below nothing.
    assert step.mirror.ended is Fault.WRONG_SUM
    kinds = [entry.kind for entry in await ledger_store.entries(database)]
    assert kinds.count(ledger.Kind.WORK_RETURNED) == 1
    assert await mirror_store.charged(database, ["a", "b"]) == {"a": 0}
    assert audit.examine(await audit.collect(database)) == []


async def test_time_ends_what_waits(database):
    await see(database, claim(1))
    await see(database, claim(3))
    async with database.transaction() as tx:
        await mirror_store.resume(tx, NOW + 900)
        assert (await mirror_store.tick(tx, "pp", NOW + PATIENCE_S)).mirror.ended is None
        step = await mirror_store.tick(tx, "pp", NOW + 900 + PATIENCE_S)
    assert step.mirror.ended is Fault.GAP
    assert audit.examine(await audit.collect(database)) == []


async def test_orders_of_a_database_from_before_they_lay_in_the_order_of_time_are_still_known(tmp_path):
    path = tmp_path / "pylon.db"
    old = await Database.open(path, [Schema(MONEY.room, MONEY.migrations[:3])])
    async with old.transaction() as tx:
        for job, at in (("a", NOW + 2), ("b", NOW + 1), ("c", NOW - 9)):
            await tx.execute("INSERT INTO money_order VALUES (?, 'pp', 5940, 2000, 1, 2, 3, 100, 16, ?)", (job, at))
    await old.close()
    database = await Database.open(path, [MONEY])
    assert [order.job for order in await order_store.unanswered(database, since=NOW)] == ["b", "a"]
    await database.close()


def test_a_payment_whose_outcome_we_do_not_know_may_show_in_a_later_receipt_too():
    paid = replace(PAID, maybe=Msat(5_000))
    assert after(claim(2, paid=15_000), paid=paid, mirror=after(claim(1))).paid_seen == 15_000


def test_what_waits_of_an_epoch_that_its_provider_has_left_is_dropped():
    mirror = after(claim(1), claim(3), claim(1, 1_000, 2_000, epoch=E2))
    assert (mirror.epoch, mirror.waiting) == (E2, ())


async def test_credit_that_was_found_is_booked_once_however_many_receipts_follow_at_once(database):
    await see(database, claim(2, paid=12_000))
    await see(database, claim(1, paid=12_000))
    assert await ledger_store.balance(database, ledger.FOUND) == 2_000


def test_of_more_receipts_than_wait_at_the_most_one_more_ends_the_relation():
    waits = after(claim(1), *(claim(2 + n) for n in range(1, MAX_WAITING + 1)))
    assert (waits.ended, len(waits.waiting)) == (None, MAX_WAITING)
    assert refused(waits, claim(MAX_WAITING + 3)) is Fault.GAP
