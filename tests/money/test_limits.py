"""The limits, as values and as SQL: both must say the same after any history."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pylon.money.books import ledger
from pylon.money.books import store as ledger_store
from pylon.money.invoices.invoice import Invoice
from pylon.money.limits import DAY_S, HELD_S, HOUR_S, PLAY_CAPS, Caps, Limit, Spend, Used, allow, room
from pylon.money.msat import Msat
from pylon.money.payment import BY_HAND
from pylon.money.payments import store as payment_store
from pylon.money.payments.agreed import FIRST
from pylon.money.states import PaymentState
from tests.money.craft import NOW
from tests.money.fakes import open_database

sats = Msat.from_sats
CAPS = Caps(
    payment=sats(20), fee=sats(2), job=sats(25), provider=sats(60), hour=sats(80), day=sats(150), run=sats(100),
    all=sats(200), in_flight=5,
)  # fmt: skip
SPEND = Spend(sats(10), sats(1), "j", "p", "r")


@pytest.mark.parametrize(
    ("spend", "before", "limit"),
    [
        (replace(SPEND, amount=sats(21)), Used(), Limit.PAYMENT),
        (replace(SPEND, fee_limit=sats(3)), Used(), Limit.FEE),
        (SPEND, Used(job=Msat(14_001)), Limit.JOB),
        (SPEND, Used(provider=Msat(50_001)), Limit.PROVIDER),
        (SPEND, Used(hour=Msat(69_001)), Limit.HOUR),
        (SPEND, Used(day=Msat(139_001)), Limit.DAY),
        (SPEND, Used(run=Msat(89_001)), Limit.RUN),
        (replace(SPEND, run=""), Used(run=Msat(89_001)), None),
        (SPEND, Used(all=Msat(189_001)), Limit.ALL),
        (SPEND, Used(in_flight=5), Limit.IN_FLIGHT),
        (SPEND, Used(in_flight=4, newcomers=2), Limit.IN_FLIGHT),
        (SPEND, Used(in_flight=4, newcomers=1), None),
        (
            SPEND,
            Used(Msat(14_000), Msat(50_000), Msat(69_000), Msat(139_000), Msat(89_000), Msat(189_000), 4),
            None,
        ),
    ],
)
def test_each_limit_has_its_own_code_and_is_reached_exactly(spend, before, limit):
    assert allow(CAPS, before, spend) is limit


def test_a_payment_of_the_largest_size_passes_every_limit_with_its_fee():
    assert allow(PLAY_CAPS, Used(), Spend(PLAY_CAPS.payment, PLAY_CAPS.fee, "j", "p", "r")) is None


USED = st.builds(Used, *[st.integers(0, 90_000).map(Msat)] * 6)


@given(USED, st.sampled_from(["", "r"]), st.booleans(), st.sampled_from([0, 1_000, 2_000]))
def test_the_room_is_the_largest_amount_that_every_limit_lets_through(used, run, by_hand, fee):
    spend = replace(SPEND, run=run, by_hand=by_hand, fee_limit=Msat(fee))
    largest = room(CAPS, used, spend)
    assert allow(CAPS, used, replace(spend, amount=Msat(largest + 1))) is not None
    assert largest == 0 or allow(CAPS, used, replace(spend, amount=largest)) is None


def invoice(number: int, amount: Msat) -> Invoice:
    return Invoice("i", "bcrt", amount, f"{number:064x}", "payee", NOW, NOW + 600)


async def reserve(database, spend: Spend, number: int, now: float, caps: Caps = CAPS) -> Limit | None:
    async with database.transaction() as tx:
        limit = allow(caps, await payment_store.used(tx, spend, now), spend)
        if limit is None:
            await payment_store.reserve(tx, invoice(number, spend.amount), spend, now)
        return limit


async def test_caps_hold_under_fifty_payments_at_once(tmp_path):
    database = await open_database(tmp_path)
    caps = replace(PLAY_CAPS, run=sats(110), in_flight=50)
    wanted = [Spend(sats(9), sats(1), f"j{n}", f"p{n}", "r") for n in range(50)]
    found = await asyncio.gather(*(reserve(database, s, n, float(NOW), caps) for n, s in enumerate(wanted)))
    assert found.count(None) == 11
    assert found.count(Limit.RUN) == 39
    await database.close()


@pytest.mark.parametrize("outcome", ["reserved", "settled"])
async def test_a_provider_may_hold_as_many_of_the_largest_payments_as_its_cap_says(tmp_path, outcome):
    database = await open_database(tmp_path)
    caps = replace(FIRST.caps, hour=sats(1_000))
    for number in range(4):
        spend = Spend(caps.payment, caps.fee, f"j{number}", "p", "r")
        assert await reserve(database, spend, number, float(NOW), caps) is None
        if outcome == "settled":
            async with database.transaction() as tx:
                await payment_store.move(tx, f"{number:064x}", PaymentState.SENDING, "", NOW)
                await payment_store.settle(tx, f"{number:064x}", "00", caps.fee, NOW)
                entries = ledger.topup_paid(NOW, "p", f"{number:064x}", spend.amount, caps.fee)
                await ledger_store.book(tx, entries)
    one = Spend(sats(1), caps.fee, "j", "p", "r")
    assert await reserve(database, one, 4, float(NOW), caps) is Limit.PROVIDER
    await database.close()


async def test_a_payment_of_unknown_outcome_goes_on_counting(tmp_path):
    database = await open_database(tmp_path)
    await reserve(database, SPEND, 1, float(NOW))
    async with database.transaction() as tx:
        await payment_store.move(tx, f"{1:064x}", PaymentState.SENDING, "", NOW)
        await payment_store.move(tx, f"{1:064x}", PaymentState.UNKNOWN, "?", NOW)
    week = NOW + 7 * 86_400.0
    counted = replace(Used(*[Msat(11_000)] * 6, newcomers=0), provider=Msat(10_000))
    assert await payment_store.used(database, SPEND, week) == counted
    await database.close()


async def has_worked(database, provider: str, seq: int = 1) -> None:
    """A receipt of this provider was accepted."""
    async with database.transaction() as tx:
        row = (provider, "e", seq, f"did {provider} {seq}", 1, 1, 1, 1, NOW, NOW)
        await tx.execute("INSERT INTO money_claim VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)


async def fifty_at_once(database, who: str, now: float = NOW) -> list[Limit | None]:
    wanted = [(n, Spend(sats(1), sats(1), f"{who}{n}{now}", f"{who}{n}", "r")) for n in range(50)]
    base = int(now) * 1_000 + ord(who) * 100
    return await asyncio.gather(*(reserve(database, spend, base + n, now, PLAY_CAPS) for n, spend in wanted))


async def test_no_more_than_twenty_payments_are_in_flight(tmp_path):
    database = await open_database(tmp_path)
    for n in range(50):
        await has_worked(database, f"p{n}")
    found = await fifty_at_once(database, "p")
    assert (found.count(None), found.count(Limit.IN_FLIGHT)) == (20, 30)
    await database.close()


async def test_keys_without_number_that_hold_what_they_are_paid_keep_nobody_else_from_being_paid(tmp_path):
    """Whoever has a payment hang (by a hold invoice) need not have any money, only keys."""
    database = await open_database(tmp_path)
    assert (await fifty_at_once(database, "x")).count(None) == 10
    for n in range(50):
        await has_worked(database, f"p{n}")
    assert (await fifty_at_once(database, "p")).count(None) == 10, "half of the places are kept for those that worked"
    later = NOW + HELD_S + 1
    assert (await fifty_at_once(database, "y", later)).count(None) == 10, "what is held takes no place for long"
    used = await payment_store.used(database, SPEND, later)
    assert used.all == used.day == sats(2 * 30), "all that is held counts against the limits"
    await database.close()


async def test_what_the_owner_pays_by_hand_waits_for_no_place_behind_new_providers(tmp_path):
    database = await open_database(tmp_path)
    await fifty_at_once(database, "x")
    spend = Spend(sats(1), sats(1), "invoice:1", f"{BY_HAND}node", "", by_hand=True)
    assert await reserve(database, spend, 1, float(NOW), PLAY_CAPS) is None
    await database.close()


@dataclass(frozen=True, slots=True)
class Record:
    """A payment that counts. `counted` is what was reserved, or what it cost once that is known."""

    spend: Spend
    counted: Msat
    at: float
    open: bool


def used(records: Iterable[Record], spend: Spend, now: float, worked_off: Mapping[str, int]) -> Used:
    """What `payments.store.used` is to say. `worked_off` is what each provider has charged so far, in msat."""
    job = provider = hour = day = run = total = in_flight = newcomers = 0
    left = -worked_off.get(spend.provider, 0)
    for record in records:
        counted = int(record.counted)
        job += counted * (record.spend.job == spend.job)
        if record.spend.provider == spend.provider:
            provider += int(record.spend.amount) * record.open
            left += int(record.spend.amount) * (not record.open)
        run += counted * (record.spend.run == spend.run)
        hour += counted * (record.open or record.at > now - HOUR_S)
        day += counted * (record.open or record.at > now - DAY_S)
        total += counted
        in_flight += record.open and record.at > now - HELD_S
        newcomers += record.open and record.at > now - HELD_S and record.spend.provider not in worked_off
    provider += max(0, left)
    return Used(
        Msat(job), Msat(provider), Msat(hour), Msat(day), Msat(run), Msat(total), in_flight,
        None if spend.provider in worked_off else newcomers,
    )  # fmt: skip


@dataclass
class Sent:
    record: Record
    state: str = "reserved"


class SpendHistory(RuleBasedStateMachine):
    """Reservations that settle, fail or stay unknown, in any order, with time passing."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.mkdtemp()
        self.database = self.loop.run_until_complete(open_database(Path(self.folder)))
        self.now = float(NOW)
        self.sent: dict[int, Sent] = {}
        self.worked_off: dict[str, int] = {}
        self.count = 0

    def teardown(self) -> None:
        self.loop.run_until_complete(self.database.close())
        self.loop.close()
        shutil.rmtree(self.folder)

    def counting(self) -> list[Record]:
        return [sent.record for sent in self.sent.values() if sent.state != "failed"]

    @rule(
        amount=st.integers(1, 24),
        fee=st.integers(0, 3),
        job=st.integers(0, 3),
        provider=st.sampled_from("abc"),
        run=st.sampled_from(["x", "y", ""]),
    )
    def pay(self, amount: int, fee: int, job: int, provider: str, run: str) -> None:
        # A job has one payment that counts: the database refuses another.
        if any(s.record.spend.job == f"j{job}" and s.state != "failed" for s in self.sent.values()):
            job = 10 + self.count
        spend = Spend(sats(amount), sats(fee), f"j{job}", provider, run)
        expected = allow(CAPS, used(self.counting(), spend, self.now, self.worked_off), spend)
        self.count += 1
        found = self.loop.run_until_complete(reserve(self.database, spend, self.count, self.now))
        assert found is expected
        if found is None:
            self.sent[self.count] = Sent(Record(spend, spend.amount + spend.fee_limit, self.now, open=True))

    @rule(pick=st.integers(0, 99), fee=st.integers(0, 3), outcome=st.sampled_from(["settled", "failed", "unknown"]))
    def end(self, pick: int, fee: int, outcome: str) -> None:
        going = [number for number, sent in self.sent.items() if sent.record.open and sent.state != "failed"]
        if not going:
            return
        number = going[pick % len(going)]
        sent = self.sent[number]

        async def act() -> None:
            payment_hash = f"{number:064x}"
            async with self.database.transaction() as tx:
                if (await payment_store.get(tx, payment_hash)).state is PaymentState.RESERVED:
                    await payment_store.move(tx, payment_hash, PaymentState.SENDING, "", self.now)
                if outcome == "settled":
                    await payment_store.settle(tx, payment_hash, "00", sats(fee), self.now)
                    spend = sent.record.spend
                    entries = ledger.topup_paid(self.now, spend.provider, payment_hash, spend.amount, sats(fee))
                    await ledger_store.book(tx, entries)
                elif outcome == "failed":
                    await payment_store.move(tx, payment_hash, PaymentState.FAILED, "no", self.now)
                else:
                    await payment_store.move(tx, payment_hash, PaymentState.UNKNOWN, "?", self.now)

        self.loop.run_until_complete(act())
        sent.state = outcome
        if outcome == "settled":
            sent.record = replace(sent.record, open=False, counted=sent.record.spend.amount + sats(fee))

    @rule(provider=st.sampled_from("abc"), amount=st.integers(1, 30))
    def work(self, provider: str, amount: int) -> None:
        self.count += 1
        self.worked_off[provider] = self.worked_off.get(provider, 0) + amount * 1_000

        async def act() -> None:
            async with self.database.transaction() as tx:
                reference = f"{provider}/e/{self.count}"
                await ledger_store.book(tx, ledger.work_received(self.now, provider, reference, amount * 1_000))
            await has_worked(self.database, provider, self.count)

        self.loop.run_until_complete(act())

    @rule(seconds=st.sampled_from([60, 3_600, 90_000]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @invariant()
    def caps_hold(self) -> None:
        # A wallet may take a larger fee than it was told: nothing here can prevent that one sat.
        over = sum(max(0, int(r.counted) - r.spend.amount - r.spend.fee_limit) for r in self.counting())
        totals = used(self.counting(), SPEND, self.now, self.worked_off)
        assert totals.all <= CAPS.all + over
        assert totals.day <= CAPS.day + over
        assert totals.in_flight <= CAPS.in_flight


TestSpendHistory = SpendHistory.TestCase
TestSpendHistory.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
