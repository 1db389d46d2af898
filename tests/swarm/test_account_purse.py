"""What a customer offers, pays and accepts, against a real database and a wallet that is a fake and says so."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon import forever as loops
from pylon.errors import MoneyError
from pylon.jobs.answer import Address, Amount
from pylon.jobs.kinds import RLM_REQUEST
from pylon.jobs.result import Finish, JobResult
from pylon.money.accounts import mirror_store
from pylon.money.accounts.deposit import GROWTH
from pylon.money.accounts.receipt import AccountReceipt
from pylon.money.accounts.usage import Bounds, Usage, UsageFault
from pylon.money.invoices.invoice import InvoiceCode
from pylon.money.limits import PLAY_CAPS, Limit
from pylon.money.msat import ZERO, Msat
from pylon.money.network import Network
from pylon.money.payment import PaymentRefusedError, Refusal
from pylon.money.payments import payees as payee_store
from pylon.money.payments import store as payment_store
from pylon.money.payments.decision import Decision
from pylon.money.payments.sender import Sender, SendPolicy
from pylon.money.price import Price
from pylon.money.states import PaymentState
from pylon.money.wallet import WalletCode
from pylon.nostr.event import Event
from pylon.nostr.keys import SecretKey
from pylon.store.group import GroupCommit
from pylon.swarm.flights import Flight
from pylon.swarm.providers.lack import STOPPED, UNFUNDED
from pylon.swarm.providers.listing import Listing
from pylon.swarm.rows import written
from pylon.swarm.spending import funds, paying, unpaid_invoices
from pylon.swarm.spending.account_purse import AccountPurse
from pylon.swarm.spending.purse import Bill
from pylon.swarm.spending.relation import QUOTE_S, Relation
from pylon.swarm.spending.unpaid import OTHER_PAYEE
from pylon.swarm.wire.settling import bill_of
from tests.money.craft import OTHER_KEY
from tests.money.fakes import FakeLightning, clock, open_database
from tests.waiting import until

US, THEM = "a" * 64, "b" * 64
EPOCH = "0" * 16
PRICED = Listing(THEM, price=Price(Msat(1_000), ZERO, ZERO), network="play")
FREE = Listing(THEM)
BOUNDS = Bounds(100, 16)
BID = Msat(2_000)
PAYEE = SecretKey(bytes(31) + b"\x09")


@pytest.fixture
def lightning():
    return FakeLightning(clock())


@pytest.fixture
async def purse(tmp_path, lightning):
    database = await open_database(tmp_path)
    policy = SendPolicy(Network.PLAY, PLAY_CAPS, stopped=lambda: False)
    lightning.payer = lightning.wallet()
    sender = Sender(database, lightning.payer, policy, lightning.clock)
    group = GroupCommit(database)
    group.start()
    purse = AccountPurse(
        database=database, group=group, sender=sender, clock=lightning.clock, customer=US,
        run="run",
    )  # fmt: skip
    yield purse
    await purse.close()
    await group.close()
    await database.close()


def bill(purse, request: str = "1" * 64) -> Bill:
    return Bill(THEM, US, request, int(purse.clock.wall()))


def result(receipt: AccountReceipt | None, prompt_tokens: int = 50) -> JobResult:
    usage = Usage(prompt_tokens, 10)
    return JobResult(Address("1" * 64, US), 6940, "text", usage=usage, account=receipt)


def receipt(seq: int, charge: int, charged: int, paid: int = 0) -> AccountReceipt:
    return AccountReceipt(EPOCH, seq, charge, Msat(charged), Msat(paid))


async def test_free_providers_are_offered_nothing_and_not_held_back(purse):
    await purse.start()
    assert purse.width(FREE) is None
    offer = purse.offer(FREE, BOUNDS, bid=BID, jobs_left=10)
    assert (offer.bid, offer.topup) == (ZERO, None)


async def test_a_stranger_gets_one_job_until_money_is_there(purse):
    await purse.start()
    assert purse.width(PRICED) == 1
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    assert (offer.quote, offer.bid, offer.topup) == (1_000, BID, 3_000)
    assert purse.width(PRICED) == 1


async def test_nothing_is_remembered_of_keys_that_were_only_looked_at(purse):
    for n in range(100):
        stranger = replace(PRICED, provider=f"{n:064x}")
        assert (purse.width(stranger), purse.barred(stranger), purse.funded(stranger)) == (1, "", True)
    assert not purse._relations


async def test_deposits_grow_with_accepted_work_and_end_with_the_run(purse):
    await purse.start()
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    assert await purse.accept(bill(purse), offer, result(receipt(1, 1_000, 1_000))) == 1_000
    assert purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100).topup == 1_000 * GROWTH
    assert purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=2).topup == 2_000
    seen = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=2).seen
    assert (seen.epoch, seen.seq, seen.charged_total) == (EPOCH, 1, 1_000)


async def test_a_charge_above_the_quote_ends_the_relation_and_says_so(purse):
    told = []
    purse.changed = told.append
    await purse.start()
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    assert await purse.accept(bill(purse), offer, result(receipt(1, 1_001, 1_001))) is None
    assert purse.width(PRICED) == 0
    assert told == [THEM]


async def test_inflated_usage_ends_the_relation_over_a_restart_too(purse):
    await purse.start()
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    inflated = result(receipt(1, 1_000, 1_000), prompt_tokens=100_000)
    assert await purse.accept(bill(purse), offer, inflated) is None
    again = replace(purse)
    await again.start()
    assert again.width(PRICED) == 0
    await again.close()


@pytest.mark.parametrize(("sent_bytes", "holds"), [(10, True), (9, False), (0, False), (None, False)])
async def test_a_part_is_paid_for_where_it_was_sent_and_taken_back_and_ends_the_relation_elsewhere(
    purse, sent_bytes, holds
):
    await purse.start()
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    part = replace(result(receipt(1, 900, 900)), text="", finish=Finish.CANCELLED)
    assert await purse.accept(replace(bill(purse), sent_bytes=sent_bytes), offer, part) == (900 if holds else None)
    ended = (await mirror_store.load(purse.database, THEM)).ended
    assert ended is (None if holds else UsageFault.NOT_SENT)


async def test_where_nothing_was_sent_not_even_the_base_price_is_paid(purse):
    await purse.start()
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    part = replace(result(receipt(1, 900, 900)), text="", finish=Finish.CANCELLED, usage=Usage(0, 0))
    assert await purse.accept(replace(bill(purse), sent_bytes=0), offer, part) is None


@pytest.mark.parametrize(("charge", "holds"), [(1, False), (0, True)])
async def test_who_charges_for_a_job_after_saying_that_it_is_not_done_is_left_for_good(purse, charge, holds):
    await purse.start()
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    charged = await purse.accept(replace(bill(purse), let_go=True), offer, result(receipt(1, charge, charge)))
    assert charged == (0 if holds else None)
    assert (await mirror_store.load(purse.database, THEM)).ended is (None if holds else UsageFault.AFTER_ERROR)


async def test_a_part_that_was_sent_costs_no_more_than_its_tokens_do(purse):
    await purse.start()
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    part = replace(result(receipt(1, 1_001, 1_001)), text="", finish=Finish.CANCELLED)
    assert await purse.accept(replace(bill(purse), sent_bytes=50), offer, part) is None


async def test_who_does_not_say_what_was_used_charges_the_base_price_and_no_more(purse):
    priced = replace(PRICED, price=Price(Msat(400), ZERO, Msat(10_000)))
    await purse.start()
    offer = purse.offer(priced, BOUNDS, bid=BID, jobs_left=100)
    silent = replace(result(receipt(1, 400, 400)), usage=None)
    assert await purse.accept(bill(purse), offer, silent) == 400
    silent = replace(result(receipt(2, 401, 801)), usage=None)
    assert await purse.accept(bill(purse, "2" * 64), offer, silent) is None


def test_who_has_worked_nothing_off_is_offered_no_second_deposit():
    relation = Relation()
    assert relation.topup(Msat(1_000), jobs_left=9, most=Msat(100_000), now=0.0) == 3_000
    relation.balance = 3_000
    assert relation.topup(Msat(1_000), jobs_left=9, most=Msat(100_000), now=0.0) == 0
    # A larger job takes what is there, and the rest of a stranger's three.
    assert relation.topup(Msat(2_500), jobs_left=9, most=Msat(100_000), now=0.0) == 5_000
    relation.done = 1_000
    assert relation.topup(Msat(1_000), jobs_left=9, most=Msat(100_000), now=0.0) > 0


def test_who_has_done_one_job_and_asks_for_deposits_instead_of_working_has_its_work_s_worth_and_no_more():
    relation = Relation(done=1_000)
    for _ in range(50):
        relation.balance += relation.topup(Msat(1_000), jobs_left=9, most=Msat(100_000), now=0.0)
    assert relation.balance == 1_000 * GROWTH
    assert relation.topup(Msat(5_000), jobs_left=9, most=Msat(100_000), now=0.0) == 3 * 5_000 - relation.balance


def test_who_runs_one_job_at_a_time_offers_what_was_worked_on_credit_along_with_it():
    relation = Relation(done=660, balance=-550)
    assert relation.topup(Msat(660), jobs_left=1, most=Msat(100_000), now=0.0) >= 660 + 550
    assert relation.topup(Msat(660), jobs_left=1, most=Msat(1_500), now=0.0) == 1_000
    relation.balance = 0
    assert relation.topup(Msat(660), jobs_left=1, most=Msat(100_000), now=0.0) == 1_000


@given(
    quote=st.integers(1, 50_000), done=st.integers(0, 150_000), balance=st.integers(-60_000, 60_000),
    jobs_left=st.integers(1, 100), affordable=st.none() | st.integers(0, 200_000),
)  # fmt: skip
def test_no_deposit_is_offered_that_cannot_be_paid_but_for_what_the_job_itself_needs(
    quote, done, balance, jobs_left, affordable
):
    def topup(affordable):
        relation = Relation(done=done, balance=balance if done else max(0, balance))
        known = None if affordable is None else Msat(affordable)
        return relation.topup(Msat(quote), jobs_left=jobs_left, most=Msat(100_000), now=0.0, affordable=known)

    wished, offered = topup(None), topup(affordable)
    needs = max(0, quote - (balance if done else max(0, balance)))
    assert offered % 1_000 == 0 and offered <= wished
    assert offered >= min(wished, needs)
    if affordable is not None and offered < wished:
        assert affordable - 1_000 < offered <= max(affordable, needs + 999)


async def test_a_result_without_a_receipt_costs_nothing_only_where_nothing_was_offered(purse):
    await purse.start()
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    assert purse.accept(bill(purse), offer, result(None)) is None, "its provider may charge for it later"
    free = purse.offer(Listing(THEM), BOUNDS, bid=BID, jobs_left=100)
    assert await purse.accept(bill(purse), free, result(None)) == ZERO


async def test_what_was_paid_widens_what_may_be_sent(purse, lightning):
    await purse.start()
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    theirs = lightning.wallet(SecretKey(bytes(31) + b"\x09"))
    invoice = await theirs.create_invoice(Msat(3_000), description="work", expiry_s=600)
    await purse.pay(bill(purse), offer, Amount(Msat(3_000), invoice))
    assert len(lightning.moved) == 1
    assert purse.width(PRICED) == 3


async def pays(purse, lightning, sats: int = 3):
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    theirs = lightning.wallet(SecretKey(bytes(31) + b"\x09"))
    amount = Msat.from_sats(sats)
    invoice = await theirs.create_invoice(amount, description="work", expiry_s=600)
    await purse.pay(bill(purse), offer, Amount(amount, invoice))
    return offer


async def test_after_a_restart_as_many_go_out_as_before(purse, lightning):
    await purse.start()
    offer = await pays(purse, lightning)
    await written([purse.ordered("1" * 64, 5940, offer)])
    again = replace(purse)
    await again.start()
    assert (again.width(PRICED), again.funded(PRICED)) == (3, True)
    assert again._relations[THEM].asked
    await again.close()


async def test_after_a_restart_a_payment_that_is_not_known_to_have_arrived_covers_nothing(purse, lightning):
    await purse.start()
    lightning.payer.next_pay = ["stuck"]
    await written([purse.ordered("1" * 64, 5940, await pays(purse, lightning))])
    again = replace(purse)
    await again.start()
    assert (again.width(PRICED), again.funded(PRICED), again._relations[THEM].balance) == (1, False, 0)
    await again.close()


async def test_what_is_left_with_a_provider_is_the_same_after_a_restart(purse, lightning):
    await purse.start()
    offer = await pays(purse, lightning)
    # The first holds a sat more than we know of, the third is ahead of its turn.
    for n, came in enumerate([receipt(1, 500, 500, 4_000), receipt(3, 700, 2_000, 4_000)]):
        await purse.accept(bill(purse, f"{n}" * 64), offer, result(came))
        left = purse._relations[THEM].balance
        again = replace(purse)
        await again.start()
        assert again._relations[THEM].balance == left == (3_500, 2_800)[n]
        await again.close()


async def test_what_was_charged_is_known_by_request_also_of_receipts_that_wait_for_others(purse):
    await purse.start()
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    for n, came in enumerate([receipt(1, 500, 500), receipt(3, 700, 2_000)]):
        await purse.accept(bill(purse, f"{n}" * 64), offer, result(came))
    assert await purse.charged([f"{n}" * 64 for n in range(3)]) == {"0" * 64: 500, "1" * 64: 700}


async def test_a_job_of_another_size_changes_how_many_may_be_sent_and_says_so(purse, lightning):
    told = []
    await purse.start()
    await pays(purse, lightning)
    purse.changed = told.append
    purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    assert (purse.width(PRICED), told) == (3, [])
    dear = replace(PRICED, price=Price(Msat(3_000), ZERO, ZERO))
    purse.offer(dear, BOUNDS, bid=BID, jobs_left=100)
    assert (purse.width(PRICED), told) == (1, []), "whoever hears of it ends and sends jobs, and one is being made"
    await asyncio.sleep(0)
    assert told == [THEM]


async def test_one_dear_job_does_not_narrow_what_is_sent_for_good(purse, lightning):
    await purse.start()
    await pays(purse, lightning)
    dear = replace(PRICED, price=Price(Msat(3_000), ZERO, ZERO))
    purse.offer(dear, BOUNDS, bid=BID, jobs_left=100)
    lightning.clock.advance(QUOTE_S - 1)
    purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    assert purse.width(PRICED) == 1
    lightning.clock.advance(QUOTE_S + 1)
    purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    assert purse.width(PRICED) == 3


@given(
    st.lists(st.tuples(st.floats(0.0, 700.0), st.integers(1, 50)), min_size=1, max_size=20),
    st.floats(0.0, 1e9),
)
def test_the_quote_is_the_dearest_of_the_last_ten_minutes_and_of_no_more_than_twenty(jobs, now):
    relation, seen = Relation(), []
    for seconds, quote in jobs:
        now += seconds
        seen.append((now, quote))
        relation.quoted(Msat(quote), now)
        assert relation.quote >= max(quote for at, quote in seen if now - at < QUOTE_S)
        assert relation.quote <= max(quote for at, quote in seen if now - at < 2 * QUOTE_S)


def test_a_clock_that_was_set_back_does_not_keep_a_quote():
    relation = Relation()
    relation.quoted(Msat(9), 1e9)
    relation.quoted(Msat(1), 1e9 - 5_000.0)
    assert relation.quote == 1


async def test_a_stranger_that_asked_for_money_first_gives_no_job_on_trial(purse, lightning):
    await purse.start()
    assert purse.funded(PRICED)
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    with pytest.raises(MoneyError):
        await purse.pay(bill(purse), offer, Amount(Msat(3_000), "no invoice"))
    assert not purse.funded(PRICED)


async def worked_off(purse, price: int) -> None:
    """A job that was done well on credit, so that a large deposit is offered next."""
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    await purse.accept(bill(purse), offer, result(receipt(1, price, price)))


@pytest.mark.parametrize(("holds", "pays"), [(532, 12), (16, 6), (9, 2), (2, 2)])
async def test_a_wallet_that_holds_less_than_the_next_deposit_still_pays_for_jobs(purse, lightning, holds, pays):
    lightning.payer.msat = holds * 1_000
    await purse.start()
    await worked_off(purse, 1_000)
    # The last one's price is owed, and this one needs as much; a fee may be 10 sats.
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    assert offer.topup == pays * 1_000
    await purse.pay(bill(purse, "2" * 64), offer, await asked(lightning, pays))
    assert lightning.payer.msat == (holds - pays) * 1_000


async def test_what_the_limits_leave_is_offered_and_not_more(purse, lightning):
    purse.sender._policy = SendPolicy(Network.PLAY, replace(PLAY_CAPS, day=Msat(17_000)), stopped=lambda: False)
    await purse.start()
    await worked_off(purse, 1_000)
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    assert offer.topup == 7_000
    await purse.pay(bill(purse, "2" * 64), offer, await asked(lightning, 7))


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(paying, "CHECK_S", 0.01)


def next_process(purse: AccountPurse) -> AccountPurse:
    """The purse of another process of the same home."""
    return AccountPurse(
        database=purse.database, group=purse.group, sender=purse.sender, clock=purse.clock, customer=US,
        run="another run",
    )  # fmt: skip


async def asked(lightning, sats: int = 3, key: SecretKey = PAYEE) -> Amount:
    theirs = lightning.wallet(key)
    invoice = await theirs.create_invoice(Msat(sats * 1_000), description="work", expiry_s=120)
    return Amount(Msat(sats * 1_000), invoice)


async def test_a_provider_whose_invoice_was_not_paid_is_asked_again_once_it_ran_out(purse, lightning, quick):
    again = asyncio.Event()
    await purse.start()
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    lightning.payer.down = True
    with pytest.raises(MoneyError):
        await purse.pay(bill(purse), offer, await asked(lightning))
    lightning.payer.down = False
    purse.changed = lambda _: again.set()
    lightning.clock.advance(120)
    await asyncio.sleep(0.1)
    assert purse.width(PRICED) == 0
    lightning.clock.advance(61)
    await asyncio.wait_for(again.wait(), 20)
    assert purse.width(PRICED) == 1
    await purse.pay(bill(purse, "2" * 64), offer, await asked(lightning))
    assert purse.width(PRICED) == 3


async def test_a_wallet_that_holds_too_little_is_named_as_the_reason(purse, lightning):
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    lightning.payer.next_pay = [WalletCode.INSUFFICIENT_BALANCE]
    with pytest.raises(MoneyError, match="the wallet holds less than 3 play sat"):
        await purse.pay(bill(purse), offer, await asked(lightning))
    assert purse.barred(PRICED) == "not paid, because the wallet holds too little"


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        (WalletCode.QUOTA_EXCEEDED, "not paid, because one of our limits is reached (quota_exceeded)"),
        # The next one may succeed.
        (WalletCode.RATE_LIMITED, ""),
        (WalletCode.UNREACHABLE, ""),
    ],
    ids=["for long", "for a moment", "for as long as it is away"],
)
async def test_what_keeps_from_paying_for_long_bars_a_provider_until_its_invoice_ran_out(
    purse, lightning, quick, trouble, why
):
    again = asyncio.Event()
    await purse.start()
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    assert purse.barred(PRICED) == ""
    lightning.payer.next_pay = [trouble]
    with pytest.raises(MoneyError):
        await purse.pay(bill(purse), offer, await asked(lightning))
    assert (purse.width(PRICED), purse.barred(PRICED)) == (0, why)
    purse.changed = lambda _: again.set()
    lightning.clock.advance(unpaid_invoices.MOST_UNPAID_S)
    await asyncio.wait_for(again.wait(), 20)
    assert (purse.width(PRICED), purse.barred(PRICED)) == (1, "")


async def test_a_wallet_that_was_filled_makes_its_providers_worth_waiting_for(purse, lightning, quick, monkeypatch):
    monkeypatch.setattr(unpaid_invoices, "WALLET_S", 0.02)
    again = asyncio.Event()
    await purse.start()
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    # It holds what is asked for, and not the fee.
    lightning.payer.msat = Msat(3_000)
    lightning.payer.next_pay = [WalletCode.INSUFFICIENT_BALANCE]
    with pytest.raises(MoneyError):
        await purse.pay(bill(purse), offer, await asked(lightning))
    for _ in range(3):
        lightning.clock.advance(1)
        await asyncio.sleep(0.05)
    assert purse.barred(PRICED) == UNFUNDED
    purse.changed = lambda _: again.set()
    lightning.payer.msat = Msat(3_100)
    lightning.clock.advance(1)
    await asyncio.wait_for(again.wait(), 20)
    # Not before that invoice has run out, but it is no longer so that nothing may go there.
    assert (purse.width(PRICED), purse.barred(PRICED)) == (0, "")


@pytest.mark.parametrize(("msat", "why"), [(0, UNFUNDED), (3_000, "")], ids=["empty still", "filled"])
async def test_whom_an_empty_wallet_did_not_pay_gets_nothing_from_the_next_process_before_that_invoice_ran_out(
    purse, lightning, quick, monkeypatch, msat, why
):
    monkeypatch.setattr(unpaid_invoices, "WALLET_S", 0.02)
    lightning.payer.msat = 0
    lightning.payer.next_pay = [WalletCode.INSUFFICIENT_BALANCE]
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    with pytest.raises(MoneyError):
        await purse.pay(bill(purse), offer, await asked(lightning))
    again = next_process(purse)
    lightning.payer.msat = msat
    await again.start()
    assert again.width(PRICED) == 0
    for _ in range(3):
        lightning.clock.advance(1)
        await asyncio.sleep(0.05)
    await until(lambda: (again.width(PRICED), again.barred(PRICED)) == (0, why))
    lightning.clock.advance(unpaid_invoices.MOST_UNPAID_S)
    await until(lambda: (again.width(PRICED), again.barred(PRICED)) == (1, ""))
    await again.close()


async def test_an_invoice_that_was_paid_since_leaves_no_reason_to_wait_for_the_one_before(purse, lightning):
    lightning.payer.next_pay = [WalletCode.INSUFFICIENT_BALANCE]
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    with pytest.raises(MoneyError):
        await purse.pay(bill(purse), offer, await asked(lightning))
    lightning.clock.advance(1)
    await purse.pay(bill(purse, "2" * 64), offer, await asked(lightning))
    again = next_process(purse)
    await again.start()
    assert again.width(PRICED) == 1
    await again.close()


async def test_a_wallet_that_was_filled_a_little_makes_no_more_worth_waiting_for_than_it_can_pay(
    purse, lightning, quick, monkeypatch
):
    monkeypatch.setattr(unpaid_invoices, "WALLET_S", 0.02)
    await purse.start()
    others = [replace(PRICED, provider=letter * 64) for letter in "def"]
    lightning.payer.msat = Msat(0)
    offers = [purse.offer(other, BOUNDS, bid=BID, jobs_left=9) for other in others]
    for other, offer in zip(others, offers, strict=True):
        lightning.payer.next_pay = [WalletCode.INSUFFICIENT_BALANCE]
        to = Bill(other.provider, US, other.provider, int(lightning.clock.wall()))
        with pytest.raises(MoneyError):
            await purse.pay(to, offer, await asked(lightning))
    for held in (0, 6_500):
        lightning.payer.msat = Msat(held)
        lightning.clock.advance(1)
        await asyncio.sleep(0.1)
    await until(lambda: sorted(purse.barred(other) for other in others) == ["", "", UNFUNDED])


async def test_a_wallet_that_does_not_answer_holds_nothing_up(purse, lightning, quick, monkeypatch):
    for module in (unpaid_invoices, funds):
        monkeypatch.setattr(module, "WALLET_S", 0.05)
    asked_for, again = asyncio.Event(), asyncio.Event()

    async def hangs():
        asked_for.set()
        await asyncio.Event().wait()

    await purse.start()
    lightning.payer.next_pay = [WalletCode.INSUFFICIENT_BALANCE]
    with pytest.raises(MoneyError):
        await purse.pay(bill(purse), purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=9), await asked(lightning))
    monkeypatch.setattr(lightning.payer, "balance", hangs)
    await asyncio.wait_for(asked_for.wait(), 20)
    purse.changed = lambda _: again.set()
    lightning.clock.advance(unpaid_invoices.MOST_UNPAID_S)
    await asyncio.wait_for(again.wait(), 20)
    assert purse.barred(PRICED) == "" and purse.width(PRICED) == 1


async def test_when_the_stop_file_is_gone_providers_are_worth_waiting_for(purse, lightning, quick):
    stopped, again = [True], asyncio.Event()
    purse.sender._policy = replace(purse.sender._policy, stopped=lambda: bool(stopped))
    await purse.start()
    with pytest.raises(PaymentRefusedError):
        await purse.pay(bill(purse), purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=9), await asked(lightning))
    await asyncio.sleep(0.05)
    assert purse.barred(PRICED) == STOPPED
    purse.changed = lambda _: again.set()
    stopped.clear()
    await asyncio.wait_for(again.wait(), 20)
    assert purse.barred(PRICED) == ""


async def test_a_provider_with_another_payee_is_named_and_asked_again_at_once_when_that_is_trusted(
    purse, lightning, quick
):
    them = replace(PRICED, provider="d" * 64)

    async def pay(number: int, **key: SecretKey) -> None:
        to = Bill(them.provider, US, str(number) * 64, int(lightning.clock.wall()))
        await purse.pay(to, purse.offer(them, BOUNDS, bid=BID, jobs_left=9), await asked(lightning, **key))

    await purse.start()
    await pay(1)
    to = Bill(them.provider, US, "1" * 64, int(lightning.clock.wall()))
    await purse.accept(to, purse.offer(them, BOUNDS, bid=BID, jobs_left=9), result(receipt(1, 1_000, 1_000, 3_000)))
    with pytest.raises(PaymentRefusedError, match="pylon wallet trust-payee npub1"):
        await pay(2, key=OTHER_KEY)
    assert "pylon wallet trust-payee" in purse.barred(them) == OTHER_PAYEE
    await asyncio.sleep(0.05)
    assert purse.width(them) == 0, "nothing is followed by itself"
    again = asyncio.Event()
    purse.changed = lambda _: again.set()
    [offer] = await payee_store.offers(purse.database)
    async with purse.database.transaction() as tx:
        now = lightning.clock.wall()
        await payee_store.trust(tx, them.provider, pinned=offer.pinned, offered=offer.offered, now=now)
    await asyncio.wait_for(again.wait(), 20)
    assert (purse.barred(them), purse.width(them)) == ("", 2)
    await pay(3, key=OTHER_KEY)
    assert len(lightning.moved) == 2


async def test_a_full_limit_or_the_stop_file_is_named_as_the_reason(purse, lightning, monkeypatch):
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    for code, why in (
        (Limit.DAY, "not paid, because one of our limits is reached (limit_day)"),
        (Limit.HOUR, ""),
        (Limit.PROVIDER, ""),
        (Limit.IN_FLIGHT, ""),
        (Refusal.STOPPED, "not paid, because the STOP file halts all spending"),
        (Refusal.PAYEE_CHANGED, OTHER_PAYEE),
        (Refusal.JOB_IN_FLIGHT, ""),
        (InvoiceCode.EXPIRED, ""),
    ):

        async def refuse(ask, order, code=code):
            raise PaymentRefusedError(code, "no")

        monkeypatch.setattr(purse.sender, "pay", refuse)
        with pytest.raises(PaymentRefusedError):
            await purse.pay(bill(purse), offer, None, wanted=lambda: False)
        assert purse.barred(PRICED) == why


async def test_a_deposit_waits_a_moment_for_others_that_are_under_way_and_no_longer(
    purse, lightning, monkeypatch, quick
):
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    pay, refused = purse.sender.pay, []

    async def tried(ask, order):
        if len(refused) < 3:
            refused.append(order.job)
            raise PaymentRefusedError(Limit.IN_FLIGHT, "no")
        return await pay(ask, order)

    monkeypatch.setattr(purse.sender, "pay", tried)
    await purse.pay(bill(purse), offer, await asked(lightning))
    assert (len(refused), len(lightning.moved)) == (3, 1)
    refused.clear()
    waits = asyncio.create_task(purse.pay(bill(purse, "2" * 64), offer, await asked(lightning)))
    while not refused:
        await asyncio.sleep(0)
    lightning.clock.advance(11)
    refused.clear()
    with pytest.raises(PaymentRefusedError):
        await waits


async def test_deposits_that_wait_for_a_place_go_out_one_by_one_as_soon_as_another_has_ended(
    purse, lightning, monkeypatch
):
    monkeypatch.setattr(paying, "CHECK_S", 1_000.0)
    # Four want to pay, and there is one place.
    pay, place, refused, let = purse.sender.pay, asyncio.Semaphore(1), [], asyncio.Event()

    async def tried(ask, order):
        if place.locked():
            refused.append(order.job)
            raise PaymentRefusedError(Limit.IN_FLIGHT, "no")
        async with place:
            await let.wait()
            return await pay(ask, order)

    monkeypatch.setattr(purse.sender, "pay", tried)
    sides = [replace(PRICED, provider=f"{n}" * 64) for n in range(2, 6)]
    offers = [purse.offer(side, BOUNDS, bid=BID, jobs_left=9) for side in sides]
    payments = [
        asyncio.create_task(
            purse.pay(replace(bill(purse, f"{n}" * 64), author=side.provider), offer, await asked(lightning))
        )
        for n, (side, offer) in enumerate(zip(sides, offers, strict=True))
    ]
    await until(lambda: len(refused) == 3)
    # One that nobody wants any more takes no turn of another.
    payments.pop(1).cancel()
    let.set()
    async with asyncio.timeout(20):
        await asyncio.gather(*payments)
    assert (len(refused), len(lightning.moved)) == (3, 3)


@pytest.mark.parametrize("dated", [0, -86_400])
async def test_a_receipt_that_is_dated_back_lacks_a_payment_like_any_other(purse, lightning, dated):
    """It answers a request that was made after the payment, so it was signed after that."""
    await purse.start()
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    await purse.pay(bill(purse), offer, await asked(lightning))
    lightning.clock.advance(120)
    made_at = int(purse.clock.wall())
    flight = Flight("1" * 64, RLM_REQUEST, 1, 1, THEM, made_at, 0.0, offer)
    event = Event("0" * 64, THEM, made_at + dated, 6940, (), "", "")
    signed = bill_of(event, flight, result(None))
    assert await purse.accept(replace(signed, customer=US), offer, result(receipt(1, 1_000, 1_000))) == 1_000
    with pytest.raises(PaymentRefusedError) as caught:
        await purse.pay(bill(purse, "2" * 64), offer, await asked(lightning))
    assert caught.value.code is Refusal.CREDIT_MISSING


async def test_what_its_owner_had_paid_makes_no_relation(purse, lightning, quick):
    await purse.start()
    lightning.payer.next_pay = ["stuck"]
    payment = await purse.sender.pay_by_hand((await asked(lightning)).bolt11, most=Msat(3_000))
    lightning.payer.stuck.clear()
    while (await payment_store.get(purse.database, payment.payment_hash)).state is not PaymentState.SETTLED:
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    assert not len(purse._relations)


async def test_a_deposit_that_its_owner_decided_to_be_paid_counts_at_once(purse, lightning, quick):
    await purse.start()
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    lightning.payer.next_pay = ["stuck"]
    invoice = await asked(lightning)
    await purse.pay(bill(purse), offer, invoice)
    assert purse.width(PRICED) == 1
    [payment] = await payment_store.in_state(purse.database, PaymentState.UNKNOWN)
    again = asyncio.Event()
    purse.changed = lambda _: again.set()
    await purse.sender.decide(payment.payment_hash, Decision(paid=True))
    await asyncio.wait_for(again.wait(), 20)
    assert purse.width(PRICED) == 3


def refused_once(purse: AccountPurse, monkeypatch) -> asyncio.Event:
    """Is set when the sender has refused a payment, which is tried again."""
    pay, refused = purse.sender.pay, asyncio.Event()

    async def tried(ask, order):
        try:
            return await pay(ask, order)
        except PaymentRefusedError:
            refused.set()
            raise

    monkeypatch.setattr(purse.sender, "pay", tried)
    return refused


async def test_a_deposit_waits_until_it_is_known_what_became_of_the_one_before(purse, lightning, quick):
    await purse.start()
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    lightning.payer.next_pay = ["stuck"]
    await purse.pay(bill(purse), offer, await asked(lightning))
    second = asyncio.create_task(purse.pay(bill(purse, "2" * 64), offer, await asked(lightning)))
    await asyncio.sleep(0.1)
    assert len(lightning.moved) == 1 and not second.done()
    lightning.payer.stuck.clear()
    await asyncio.wait_for(second, 20)
    assert len(lightning.moved) == 2
    # The first one counts as well, once it is known.
    assert purse.width(PRICED) == 6


async def test_a_deposit_does_not_wait_forever_for_the_one_before(purse, lightning, quick, monkeypatch):
    await purse.start()
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    lightning.payer.next_pay = ["stuck"]
    await purse.pay(bill(purse), offer, await asked(lightning))
    refused = refused_once(purse, monkeypatch)
    second = asyncio.create_task(purse.pay(bill(purse, "2" * 64), offer, await asked(lightning)))
    await refused.wait()
    lightning.clock.advance(61)
    with pytest.raises(PaymentRefusedError) as caught:
        await asyncio.wait_for(second, 20)
    assert caught.value.code is Refusal.TOPUP_IN_FLIGHT
    assert purse.width(PRICED) == 0


async def test_a_deposit_that_has_to_wait_is_not_made_when_nobody_waits_for_its_job_any_more(
    purse, lightning, monkeypatch
):
    # While the second one waits to be tried again, the first one is looked up, and nothing stands in its way then.
    monkeypatch.setattr(paying, "CHECK_S", 0.2)
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    lightning.payer.next_pay = ["stuck"]
    await purse.pay(bill(purse), offer, await asked(lightning))
    refused, wanted = refused_once(purse, monkeypatch), [True]
    second = asyncio.create_task(
        purse.pay(bill(purse, "2" * 64), offer, await asked(lightning), wanted=lambda: bool(wanted))
    )
    await refused.wait()
    lightning.payer.stuck.clear()
    assert [payment.state for payment in await purse.sender.check()] == [PaymentState.SETTLED]
    wanted.clear()
    with pytest.raises(MoneyError):
        await asyncio.wait_for(second, 20)
    assert len(lightning.moved) == 1


async def test_a_deposit_that_settles_while_it_is_looked_up_counts_once(purse, lightning, quick, monkeypatch):
    wallet, sending, reading, settled = lightning.payer, asyncio.Event(), asyncio.Event(), asyncio.Event()
    pay, lookup = wallet.pay, wallet.lookup

    async def slow_pay(invoice, *, fee_limit):
        sending.set()
        await reading.wait()
        return await pay(invoice, fee_limit=fee_limit)

    async def slow_lookup(payment_hash, *, since):
        if sending.is_set():
            reading.set()
            await settled.wait()
        return await lookup(payment_hash, since=since)

    await purse.start()
    # Somebody else's payment, of which nothing is known, is looked up first.
    wallet.next_pay = ["unsent"]
    other = replace(PRICED, provider="d" * 64)
    await purse.pay(
        replace(bill(purse, "3" * 64), author=other.provider),
        purse.offer(other, BOUNDS, bid=BID, jobs_left=9),
        await asked(lightning),
    )
    lightning.clock.advance(1)
    monkeypatch.setattr(wallet, "lookup", slow_lookup)
    monkeypatch.setattr(wallet, "pay", slow_pay)
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    await asyncio.wait_for(purse.pay(bill(purse), offer, await asked(lightning)), 20)
    before = purse.width(PRICED)
    settled.set()
    await asyncio.sleep(0.2)
    assert purse.width(PRICED) == before


async def test_a_database_that_fails_for_a_moment_does_not_end_the_watch(purse, lightning, quick, monkeypatch):
    monkeypatch.setattr(loops, "REST_S", 0.01)
    check, fails = purse.sender.check, [True]

    async def check_or_fail():
        if fails:
            fails.clear()
            raise OSError("the disk is full")
        return await check()

    await purse.start()
    monkeypatch.setattr(purse.sender, "check", check_or_fail)
    lightning.payer.next_pay = ["stuck"]
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    await purse.pay(bill(purse), offer, await asked(lightning))
    held = purse.width(PRICED)
    await until(lambda: not fails)
    lightning.payer.stuck.clear()
    await until(lambda: purse.width(PRICED) > held)


async def test_an_invoice_that_a_process_paid_before_it_died_is_no_reason_to_leave_its_provider(purse, lightning):
    await purse.start()
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    amount = Amount(offer.topup, await lightning.wallet().create_invoice(offer.topup, description="", expiry_s=60))
    await purse.pay(bill(purse), offer, amount)
    calls = lightning.payer.calls.count("pay")
    again = next_process(purse)
    await again.start()
    # Its relay still holds what the provider asked then.
    await again.pay(bill(purse), offer, amount)
    assert lightning.payer.calls.count("pay") == calls
    assert again.width(PRICED) == 1
    # Another job waits for the same invoice, and offered less: it is served by the one payment.
    await again.pay(bill(purse, "2" * 64), replace(offer, topup=Msat(1_000)), amount)
    assert lightning.payer.calls.count("pay") == calls
    assert again.width(PRICED) == 1
    # One that another provider was paid is no payment to this one.
    with pytest.raises(PaymentRefusedError):
        await again.pay(replace(bill(purse, "3" * 64), author="c" * 64), offer, amount)
    await again.close()


async def test_an_invoice_that_could_not_be_paid_is_not_paid_for_another_job_and_the_reason_stays(purse, lightning):
    await purse.start()
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    amount = Amount(offer.topup, await lightning.wallet().create_invoice(offer.topup, description="", expiry_s=60))
    lightning.payer.next_pay = [WalletCode.INSUFFICIENT_BALANCE]
    for request in ("1" * 64, "2" * 64):
        with pytest.raises(MoneyError, match="the wallet holds less than 3 play sat"):
            await purse.pay(bill(purse, request), offer, amount)
        assert purse.barred(PRICED) == UNFUNDED
    assert lightning.payer.calls.count("pay") == 1


async def test_an_invoice_that_is_not_what_was_agreed_raises(purse):
    await purse.start()
    offer = purse.offer(PRICED, BOUNDS, bid=BID, jobs_left=100)
    with pytest.raises(MoneyError):
        await purse.pay(bill(purse), offer, None)
    with pytest.raises(MoneyError):
        await purse.pay(Bill("c" * 64, US, "1" * 64, 0), offer, Amount(Msat(1_000), "lnbcrt1"))
