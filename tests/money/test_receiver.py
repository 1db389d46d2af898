import asyncio
import math
import sqlite3

import pytest

from pylon.money import audit
from pylon.money.books import ledger
from pylon.money.books import store as ledger_store
from pylon.money.invoices import allowance, receiver
from pylon.money.invoices import store as invoice_store
from pylon.money.invoices.receiver import Credited, ReceiveCode, ReceiveError, Receiver
from pylon.money.msat import Msat
from pylon.money.network import Network
from pylon.money.states import InvoiceState
from pylon.money.wallet import Lookup, LookupState, WalletCode, WalletError
from tests.money import accounts
from tests.money.craft import NOW, craft, honest
from tests.money.fakes import FakeLightning, clock, open_database

sats = Msat.from_sats
ALICE = "aa" * 32
YEAR_S = 365 * 86_400.0


class Side:
    def __init__(self, path, network=Network.PLAY, live=False):
        self.path = path
        self.lightning = FakeLightning(clock(), network)
        self.clock = self.lightning.clock
        self.wallet, self.payer = self.lightning.wallet(), self.lightning.wallet()
        self.network, self.live = network, live

    async def start(self):
        self.database = await open_database(self.path)
        self.receiver = Receiver(self.database, self.wallet, self.clock, network=self.network, live=lambda: self.live)
        return self

    async def issue(self, customer=ALICE, job="j1", amount=5, **more):
        return await self.receiver.issue(customer, job, sats(amount), description="work", **more)

    async def balance(self, customer=ALICE):
        return await ledger_store.balance(self.database, ledger.customer(customer))

    async def refused(self, **more):
        with pytest.raises(ReceiveError) as caught:
            await self.issue(**more)
        return caught.value.code


@pytest.fixture
async def side(tmp_path):
    side = await Side(tmp_path).start()
    yield side
    await side.database.close()


async def test_a_paid_invoice_is_credited_once_for_its_stored_amount(side):
    issued = await side.issue()
    assert await side.receiver.look_up(issued.payment_hash) is None
    await side.payer.pay(issued.invoice, fee_limit=sats(1))
    credited = await side.receiver.look_up(issued.payment_hash)
    assert credited == Credited(ALICE, "j1", issued.payment_hash, sats(5), late=False)
    assert await side.receiver.look_up(issued.payment_hash) is None
    assert await side.balance() == 5_000
    books = await audit.collect(side.database)
    assert audit.examine(books) == []
    assert await audit.compare_with_wallet(side.wallet, books) == []


async def test_an_invoice_and_its_payment_hold_the_database_no_longer_than_a_flush_takes(side, monkeypatch):
    writer = side.database._writer
    handed_over, run = [], writer.run

    def counted(work, **how):
        handed_over.append(work)
        return run(work, **how)

    monkeypatch.setattr(writer, "run", counted)
    issued = await side.issue()
    await side.payer.pay(issued.invoice, fee_limit=sats(1))
    assert await side.receiver.look_up(issued.payment_hash) is not None
    # Each statement that waits for the writer's thread waits for a turn of a loop that a flood keeps busy.
    assert set(handed_over) <= {sqlite3.Connection.commit}


async def test_two_lookups_at_once_credit_once(side):
    issued = await side.issue()
    await side.payer.pay(issued.invoice, fee_limit=sats(1))
    found = await asyncio.gather(*(side.receiver.look_up(issued.payment_hash) for _ in range(20)))
    assert sum(one is not None for one in found) == 1
    assert await side.balance() == 5_000


async def test_a_forged_notification_credits_nothing(side):
    issued = await side.issue()
    assert await side.receiver.look_up(issued.payment_hash) is None
    assert await side.receiver.look_up("00" * 32) is None
    assert await side.balance() == 0


async def test_an_invoice_is_in_the_database_before_it_can_be_published(side):
    issued = await side.receiver.prepare(ALICE, "j1", sats(5), description="")
    assert await invoice_store.get(side.database, issued.payment_hash) is None
    async with side.database.transaction() as tx:
        await side.receiver.record(tx, issued)
        await side.receiver.record(tx, issued)
    assert await invoice_store.get(side.database, issued.payment_hash) == issued


async def test_a_job_gets_one_invoice_however_often_it_asks(side):
    issued = await side.issue()
    assert await side.issue() == issued
    assert side.wallet.calls.count("create_invoice") == 1


@pytest.mark.parametrize("paid", [True, False])
async def test_a_job_whose_invoice_is_used_gets_no_second_one(side, paid):
    issued = await side.issue()
    if paid:
        await side.payer.pay(issued.invoice, fee_limit=sats(1))
    side.clock.advance(700)
    await side.receiver.check()
    assert await side.refused() is ReceiveCode.JOB_HAD_INVOICE


async def test_a_customer_has_one_open_top_up(side):
    await side.issue()
    assert await side.refused(job="j2") is ReceiveCode.TOPUP_OPEN
    async with side.database.transaction() as tx:
        await accounts.open_account(tx, ALICE, NOW)
    assert (await accounts.load(side.database, ALICE)).topup_open
    await side.issue(customer="bb" * 32, job="j3")


async def test_a_late_payment_becomes_credit(side):
    issued = await side.issue()
    side.clock.advance(700)
    assert await side.receiver.check() == []
    found = await invoice_store.get(side.database, issued.payment_hash)
    assert found is not None
    assert found.state is InvoiceState.EXPIRED
    # Its place is free again, and so a second one can be asked for; both may be paid.
    second = await side.issue(job="j2")
    await side.payer.pay(issued.invoice, fee_limit=sats(1))
    await side.payer.pay(second.invoice, fee_limit=sats(1))
    credited = await side.receiver.check(at_start=True)
    assert [(c.job, c.late) for c in credited] == [("j2", False), ("j1", True)]
    assert await side.balance() == 10_000


async def test_what_is_paid_of_an_invoice_that_gave_way_to_another_is_credited_without_a_restart(side):
    issued = await side.issue()
    async with side.database.transaction() as tx:
        await invoice_store.move(tx, issued, InvoiceState.EXPIRED, NOW)
    second = await side.issue(job="j2")
    await side.payer.pay(issued.invoice, fee_limit=sats(1))
    side.clock.advance(60)
    assert [credited.job for credited in await side.receiver.check()] == ["j1"]
    assert await invoice_store.open_of(side.database, ALICE) == second
    assert await side.balance() == 5_000


async def test_an_invoice_is_not_given_up_while_a_payment_may_be_on_its_way(side):
    issued = await side.issue()
    side.clock.advance(600 + receiver.GRACE_S)
    assert await side.receiver.check() == []
    assert (await invoice_store.open_of(side.database, ALICE)) == issued


async def test_pending_invoices_are_looked_up_at_start(side):
    issued = await side.issue()
    await side.database.close()
    await side.payer.pay(issued.invoice, fee_limit=sats(1))
    await side.start()
    assert [c.amount for c in await side.receiver.check(at_start=True)] == [sats(5)]


async def test_an_invoice_is_asked_about_the_more_seldom_the_older_it_is(side):
    await side.issue(expiry_s=600)
    for _ in range(600):
        side.clock.advance(1)
        await side.receiver.check()
    asked = side.wallet.calls.count("lookup")
    assert 600 / receiver.LOOKUP_EVERY_S < asked < 60


async def test_a_clock_that_is_set_back_keeps_no_payment_from_being_seen(side):
    issued = await side.issue()
    side.clock.advance(60)
    assert await side.receiver.check() == []
    side.clock.set_by(-7_200)
    await side.payer.pay(issued.invoice, fee_limit=sats(1))
    side.clock.advance(receiver.LOOKUP_EVERY_S)
    assert [credited.job for credited in await side.receiver.check()] == ["j1"]


@pytest.mark.parametrize("after", [120, 3_600, 43_000])
async def test_what_is_paid_long_after_it_was_given_up_is_credited_without_a_restart(side, after):
    issued = await side.issue()
    # A clock that was set ahead gives one up too that can still be paid.
    side.clock.set_by(700)
    assert await side.receiver.check() == []
    for _ in range(after // 60):
        side.clock.advance(60)
        assert await side.receiver.check() == []
    await side.payer.pay(issued.invoice, fee_limit=sats(1))
    credited = []
    # Within as long again as it has been given up.
    for _ in range(after // 60 + 5):
        side.clock.advance(60)
        credited += await side.receiver.check()
    assert [(one.job, one.late) for one in credited] == [("j1", True)]
    assert await side.balance() == 5_000


async def test_an_invoice_that_was_given_up_is_asked_about_a_dozen_times_and_then_no_more(side):
    await side.issue()
    side.clock.advance(600 + receiver.GRACE_S + 1)
    asked = []
    for _ in range(2):
        side.wallet.calls.clear()
        for _ in range(1_440):
            await side.receiver.check()
            side.clock.advance(60)
        asked.append(side.wallet.calls.count("lookup"))
    assert 8 <= asked[0] <= 14
    assert asked[1] == 0


async def test_a_wallet_that_does_not_tell_of_what_was_given_up_long_ago_is_not_down(side):
    issued = await side.issue()
    side.clock.advance(700)
    await side.receiver.check()
    side.clock.advance(3_600)
    original, asked = side.wallet.lookup, []

    async def lookup(payment_hash):
        asked.append(payment_hash)
        raise WalletError(WalletCode.OTHER, "forgotten")

    side.wallet.lookup = lookup
    assert await side.receiver.check() == []
    assert asked == [issued.payment_hash]
    # One that may be paid just now is another matter.
    await side.issue(job="j2")
    with pytest.raises(WalletError):
        await side.receiver.check()
    side.wallet.lookup = original


async def test_a_wallet_with_no_time_for_a_lookup_is_not_taken_for_one_that_is_down_and_asked_no_more_for_now(
    side, monkeypatch
):
    monkeypatch.setattr(receiver, "LOOKUPS_AT_ONCE", 1)
    first, *_ = [await side.issue(job=f"j{n}", customer=f"{n:02x}" * 32) for n in range(5)]
    await side.payer.pay(first.invoice, fee_limit=sats(1))
    known, asked, busy = side.wallet.lookup, [], True

    async def lookup(payment_hash):
        asked.append(payment_hash)
        if busy:
            raise WalletError(WalletCode.RATE_LIMITED, "wait a second")
        return await known(payment_hash)

    side.wallet.lookup = lookup
    assert await side.receiver.check() == []
    assert len(asked) == 1
    busy = False
    side.clock.advance(1)
    assert [one.payment_hash for one in await side.receiver.check()] == [first.payment_hash]
    assert len(set(asked)) == 5


async def test_of_a_floods_invoices_some_are_looked_up_at_a_time_and_all_in_turn(side, monkeypatch):
    monkeypatch.setattr(receiver, "OPEN_LOOKUPS", 4)
    issued = [await side.issue(job=f"j{n}", customer=f"{n:02x}" * 32) for n in range(10)]
    for seen in (4, 8, 10):
        side.wallet.calls.clear()
        side.clock.advance(1)
        await side.receiver.check()
        assert side.wallet.calls == ["lookup"] * 4
        asked = side.receiver._asked
        assert sum(asked[one.payment_hash] > -math.inf for one in issued) == seen
    side.wallet.calls.clear()
    side.clock.advance(60)
    await side.receiver.check(at_start=True)
    assert side.wallet.calls == ["lookup"] * 10


async def test_a_wallet_with_no_time_for_another_invoice_is_busy_and_not_down(side):
    async def create_invoice(amount, *, description, expiry_s):
        raise WalletError(WalletCode.RATE_LIMITED, "wait a second")

    side.wallet.create_invoice = create_invoice
    assert await side.refused() is ReceiveCode.WALLET_BUSY


async def given_up(side, number: int) -> None:
    async with side.database.transaction() as tx:
        await tx.execute_many(
            "INSERT INTO money_invoice VALUES (?, ?, ?, 1000, 'i', ?, ?, 'expired', ?)",
            [(f"h{n}", f"of h{n}", f"c{n}", NOW - 9_000, NOW - 8_000, NOW - 7_000) for n in range(number)],
        )


@pytest.mark.parametrize("at_start", [True, False])
async def test_an_invoice_that_may_be_paid_is_asked_about_before_those_of_a_day_that_ran_out(
    side, monkeypatch, at_start
):
    monkeypatch.setattr(receiver, "LATE_LOOKUPS", 20)
    await given_up(side, 50)
    issued = await side.issue()
    asked = []

    async def lookup(payment_hash):
        asked.append(payment_hash)
        return Lookup(LookupState.NOT_FOUND)

    side.wallet.lookup = lookup
    await side.receiver.check(at_start=True)
    assert (asked[0], len(asked)) == (issued.payment_hash, 21)
    for _ in range(2):
        side.clock.advance(1)
        await side.receiver.check(at_start=at_start)
    assert len(set(asked)) == 51
    if not at_start:
        assert sum(one != issued.payment_hash for one in asked) == 50


@pytest.mark.parametrize(
    ("code", "is_down"),
    [(WalletCode.OTHER, False), (WalletCode.UNREACHABLE, True), (WalletCode.TIMEOUT, True)],
)
async def test_a_wallet_that_does_not_know_what_ran_out_is_not_taken_for_one_that_is_down_at_a_start(
    side, code, is_down
):
    await given_up(side, 1)

    async def lookup(payment_hash):
        raise WalletError(code, "unknown invoice")

    side.wallet.lookup = lookup
    if is_down:
        with pytest.raises(WalletError):
            await side.receiver.check(at_start=True)
    else:
        assert await side.receiver.check(at_start=True) == []


async def test_a_wallet_that_answers_nothing_is_not_waited_for_by_every_open_invoice(side, monkeypatch):
    issued = [await side.issue(customer=f"{n:064x}", job=f"j{n}") for n in range(40)]
    asked = []

    async def silent(payment_hash, *, since=None):
        asked.append(payment_hash)
        await asyncio.sleep(0)
        raise WalletError(WalletCode.TIMEOUT, "silent")

    with monkeypatch.context() as hung:
        hung.setattr(side.wallet, "lookup", silent)
        for times in (1, 2):
            with pytest.raises(WalletError):
                await side.receiver.check(at_start=True)
            assert len(asked) == times * receiver.LOOKUPS_AT_ONCE
    assert len(set(asked)) == len(asked), "those that were not reached come first the next time"
    for one in issued:
        await side.payer.pay(one.invoice, fee_limit=sats(1))
    assert len(await side.receiver.check(at_start=True)) == 40


async def test_one_bad_answer_does_not_hide_another_payment(side):
    bad, good = await side.issue(), await side.issue(customer="bb" * 32, job="j2")
    await side.payer.pay(good.invoice, fee_limit=sats(1))
    original = side.wallet.lookup

    async def lookup(payment_hash):
        if payment_hash == bad.payment_hash:
            return Lookup(LookupState.SETTLED, preimage="ab" * 32)
        return await original(payment_hash)

    side.wallet.lookup = lookup
    assert [c.job for c in await side.receiver.check()] == ["j2"]


async def test_a_wallet_that_is_down_is_said_so_and_nothing_is_free(side):
    side.wallet.down = True
    assert await side.refused() is ReceiveCode.WALLET_DOWN
    side.wallet.down = False
    await side.issue()
    side.wallet.down = True
    with pytest.raises(WalletError):
        await side.receiver.check()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (lambda text: craft(prefix="lnbcrt"), ReceiveCode.WALLET_AMOUNT),
        (lambda text: craft(prefix="lnbcrt45n"), ReceiveCode.WALLET_AMOUNT),
        (lambda text: honest(4), ReceiveCode.WALLET_AMOUNT),
        (lambda text: honest(6), ReceiveCode.WALLET_AMOUNT),
        (lambda text: honest(5, currency="bc"), ReceiveCode.WALLET_INVOICE),
        (lambda text: honest(5, created_at=NOW - 9_999), ReceiveCode.WALLET_INVOICE),
        (lambda text: honest(5, expiry_s=604_800), ReceiveCode.WALLET_INVOICE),
        (lambda text: "lnbcrt1", ReceiveCode.WALLET_INVOICE),
    ],
)
async def test_a_wallet_that_makes_another_invoice_than_asked_is_caught(side, text, code):
    side.wallet.invoice_text = text
    assert await side.refused() is code
    assert await invoice_store.of_job(side.database, "j1") is None


async def test_a_wallet_that_gives_a_hash_twice_is_caught(side):
    side.wallet.invoice_text = lambda text: honest(5)
    await side.issue()
    assert await side.refused(customer="bb" * 32, job="j2") is ReceiveCode.HASH_REUSED


@pytest.mark.parametrize(
    ("lookup", "code"),
    [
        (Lookup(LookupState.SETTLED, preimage="ab" * 32), ReceiveCode.NOT_PROVEN),
        (Lookup(LookupState.SETTLED, amount=Msat(4_000)), ReceiveCode.WALLET_AMOUNT),
        (Lookup(LookupState.SETTLED, amount=Msat(0)), ReceiveCode.WALLET_AMOUNT),
    ],
)
async def test_a_wallet_that_says_settled_without_it_being_so_credits_nothing(side, lookup, code):
    issued = await side.issue()
    side.wallet.lookup_as = lambda _: lookup
    with pytest.raises(ReceiveError) as caught:
        await side.receiver.look_up(issued.payment_hash)
    assert caught.value.code is code
    assert await side.receiver.check() == []
    assert await side.balance() == 0


async def test_more_than_was_asked_is_credited_as_what_was_asked(side):
    issued = await side.issue()
    side.wallet.lookup_as = lambda _: Lookup(LookupState.SETTLED, amount=Msat(10_000))
    credited = await side.receiver.look_up(issued.payment_hash)
    assert credited is not None
    assert credited.amount == sats(5)


async def test_who_has_paid_once_gets_no_invoices_without_end(side):
    paid = await side.issue(job="paid")
    await side.payer.pay(paid.invoice, fee_limit=sats(1))
    await side.receiver.check()
    for n in range(allowance.MAX_UNPAID_INVOICES):
        issued = await side.issue(job=f"j{n}")
        side.clock.advance(10)
        async with side.database.transaction() as tx:
            await invoice_store.move(tx, issued, InvoiceState.EXPIRED, side.clock.wall())
    assert await side.refused(job="j") is ReceiveCode.TOO_MANY_UNPAID
    await side.issue(customer="bob", job="b")
    side.clock.advance(3_600 + 600)
    await side.issue(job="j")


async def test_invoices_to_unknown_keys_are_capped_an_hour(side, monkeypatch):
    monkeypatch.setattr(allowance, "MAX_STRANGER_INVOICES", 3)
    for number in range(3):
        await side.issue(customer=f"c{number}", job=f"j{number}")
    assert await side.refused(customer="c3", job="j3") is ReceiveCode.TOO_MANY
    known = await invoice_store.of_job(side.database, "j0")
    assert known is not None
    await side.payer.pay(known.invoice, fee_limit=sats(1))
    await side.receiver.check()
    await side.issue(customer="c0", job="j4")
    await side.issue(customer="c3", job="j3")
    assert await side.refused(customer="c4", job="j4b") is ReceiveCode.TOO_MANY
    # However many were used up at once, another is made in a while.
    side.clock.advance(allowance.PACE_S + 1)
    await side.issue(customer="c4", job="j4b")
    assert await side.refused(customer="c5", job="j5") is ReceiveCode.TOO_MANY
    side.clock.advance(3_601)
    await side.issue(customer="c5", job="j5")


async def test_mainnet_invoices_are_made_only_after_go_live(tmp_path):
    side = await Side(tmp_path, Network.MAINNET).start()
    assert await side.refused() is ReceiveCode.NOT_LIVE
    assert side.wallet.calls == []
    side.receiver = Receiver(side.database, side.wallet, side.clock, network=Network.MAINNET, live=lambda: True)
    assert (await side.issue()).invoice.startswith("lnbc50n")
    await side.database.close()


async def test_a_job_step_and_its_credit_are_one_transaction(side):
    issued = await side.issue()
    await side.payer.pay(issued.invoice, fee_limit=sats(1))
    lookup = await side.wallet.lookup(issued.payment_hash)
    with pytest.raises(RuntimeError):
        async with side.database.transaction() as tx:
            assert await side.receiver.apply(tx, issued.payment_hash, lookup) is not None
            raise RuntimeError
    assert await side.balance() == 0
    async with side.database.transaction() as tx:
        assert await side.receiver.apply(tx, issued.payment_hash, lookup) is not None
    assert await side.balance() == 5_000


async def test_an_invoice_that_ran_out_and_that_the_wallet_has_forgotten_pauses_no_work_and_is_given_up(side):
    issued = await side.issue()
    side.clock.advance(2 * 86_400)

    async def forgot(_: str, **__: object) -> Lookup:
        raise WalletError(WalletCode.OTHER, "unknown invoice")

    side.wallet.lookup = forgot
    assert await side.receiver.check(at_start=True) == []
    assert (await invoice_store.get(side.database, issued.payment_hash)).state is InvoiceState.EXPIRED
    assert (await side.issue(job="j2")).state is InvoiceState.PENDING


async def test_of_one_that_ran_out_while_the_wallet_is_down_work_stays_paused(side):
    issued = await side.issue()
    side.clock.advance(2 * 86_400)
    side.wallet.down = True
    with pytest.raises(WalletError):
        await side.receiver.check()
    assert (await invoice_store.get(side.database, issued.payment_hash)).state is InvoiceState.PENDING


async def test_an_invoice_from_before_the_clock_was_set_back_a_year_is_given_up_and_still_credited_if_it_is_paid(
    side,
):
    side.clock.set_by(YEAR_S)
    issued = await side.issue()
    side.clock.set_by(-YEAR_S)
    side.clock.advance(60)
    assert await side.receiver.check() == []
    # The customer is not kept from paying until that date comes, and the wallet not asked all the time until then.
    await side.issue(job="j2")
    side.wallet.calls.clear()
    for _ in range(600):
        side.clock.advance(60)
        await side.receiver.check()
    assert side.wallet.calls.count("lookup") < 60
    await side.payer.pay(issued.invoice, fee_limit=sats(1))
    side.clock.advance(receiver.MEMORY_S / 2)
    assert [credited.job for credited in await side.receiver.check()] == ["j1"]


async def test_an_invoice_that_was_given_up_while_the_date_was_a_year_ahead_is_credited_once_that_is_right(side):
    issued = await side.issue()
    side.clock.set_by(YEAR_S)
    assert await side.receiver.check() == []
    await side.payer.pay(issued.invoice, fee_limit=sats(1))
    side.clock.advance(300)
    assert await side.receiver.check() == []
    side.clock.set_by(-YEAR_S)
    side.clock.advance(60)
    assert [credited.job for credited in await side.receiver.check()] == ["j1"]


async def test_unpaid_invoices_from_the_future_refuse_no_customer_for_good(side, monkeypatch):
    monkeypatch.setattr(receiver, "MAX_UNPAID_INVOICES", 2)
    monkeypatch.setattr(allowance, "MAX_STRANGER_INVOICES", 2)
    monkeypatch.setattr(allowance, "PACE_S", 1_800.0)
    side.clock.set_by(YEAR_S)
    for job in ("j1", "j2"):
        await side.issue(job=job)
        side.clock.advance(661)
        await side.receiver.check()
    assert await side.refused(job="j3") is ReceiveCode.TOO_MANY_UNPAID
    assert await side.refused(job="j3", customer="bb" * 32) is ReceiveCode.TOO_MANY
    side.clock.set_by(-YEAR_S)
    await side.issue(job="j3")
    await side.issue(job="j4", customer="bb" * 32)
