"""Whole histories of a customer and a provider: money moves, processes die anywhere, messages are lost or late.

At every moment: no work beyond the credit, no payment twice. In the end, when both are back and have talked:
nothing paid without credit, and both ledgers say the same to the msat.
"""

import asyncio
import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pylon.money import audit
from pylon.money.accounts import mirror_store
from pylon.money.accounts.mirror import balance
from pylon.money.books import ledger
from pylon.money.books import store as ledger_store
from pylon.money.msat import Msat
from pylon.money.payments import store as payment_store
from pylon.money.states import HoldState, InvoiceState, PaymentState, may_follow
from tests.money import accounts
from tests.money.fakes import clock
from tests.money.nodes import CUSTOMER, PROVIDER, CustomerNode, Killed, Node, ProviderNode, Wire, lightning_pair

sats = Msat.from_sats
STATES = {"payment": PaymentState, "invoice": InvoiceState, "hold": HoldState}


class History(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())

    @initialize(
        credit=st.sampled_from([0, 0, 3_000, 12_500]),
        trial=st.booleans(),
        topups=st.booleans(),
        seed=st.integers(0, 999),
    )
    def begin(self, credit: int, trial: bool, topups: bool, seed: int) -> None:
        self.clock, self.wire, self.rng = clock(), Wire(), random.Random(seed)
        self.credit, self.trial = Msat(credit), trial
        self.lightning, theirs, ours = lightning_pair(self.clock)
        self.provider = ProviderNode(self.folder / "p.db", self.clock, theirs, self.wire, self.credit, trial)
        self.customer = CustomerNode(self.folder / "c.db", self.clock, ours, topups)
        self.requested = 0
        for node in (self.provider, self.customer):
            self.run(node.start())

    def teardown(self) -> None:
        if hasattr(self, "provider"):
            try:
                self.reconcile()
                self.run(self.end())
            finally:
                for node in (self.provider, self.customer):
                    self.run(node.database.close())
        self.loop.close()
        shutil.rmtree(self.folder)

    def run(self, work):  # type: ignore[no-untyped-def]
        return self.loop.run_until_complete(work)

    def mortal(self, node: Node, work) -> None:  # type: ignore[no-untyped-def]
        """Lets a node do something; if it dies of it, it comes back, perhaps to die again."""
        while True:
            try:
                self.run(work)
                return
            except Killed:
                self.run(node.database.close())
                self.run(node.start())
                work = node.recover()  # type: ignore[attr-defined]

    # --- what may happen ----------------------------------------------------------------------------------------

    @rule(quote=st.integers(1, 9_000), wish=st.integers(0, 30), times=st.integers(1, 4))
    def request(self, quote: int, wish: int, times: int) -> None:
        for _ in range(times):
            self.requested += 1
            job = f"j{self.requested}"
            self.mortal(self.customer, self.customer.take(job, Msat(quote), sats(wish), "sent"))
            # A customer that died while it wrote the job down never sent it.
            if self.run(self.customer.database.fetch_one("SELECT 1 FROM test_job WHERE job = ?", (job,))):
                self.mortal(self.provider, self.provider.request(job, Msat(quote), sats(wish)))

    @rule(
        quote=st.integers(500, 9_000),
        times=st.integers(1, 3),
        way=st.sampled_from(["ok", "ok", "lost", "late", "stuck", "failed"]),
        doomed=st.sampled_from(["", "provider", "customer", "customer"]),
        steps=st.integers(0, 30),
    )
    def exchange(self, quote: int, times: int, way: str, doomed: str, steps: int) -> None:
        """Jobs are asked for, paid for and done, and somebody may die on the way."""
        if doomed:
            self.doom(steps, doomed == "provider")
        self.customer.fake.next_pay = [way]
        self.request(quote, 10, times)
        self.deliver()
        self.look_up()
        for _ in range(times):
            self.work(True)
        self.deliver()

    @rule(good=st.sampled_from([True, True, True, False]))
    def work(self, good: bool) -> None:
        self.mortal(self.provider, self.provider.work(self.rng, good))

    @rule()
    def deliver(self) -> None:
        """The relay passes on what it has, in any order, some of it twice."""
        messages, self.wire.live = self.wire.live, []
        self.rng.shuffle(messages)
        for message in messages + messages[:1]:
            self.mortal(self.customer, self.customer.receive(message))

    @rule()
    def lose(self) -> None:
        self.wire.live = []

    @rule()
    def look_up(self) -> None:
        self.mortal(self.provider, self.provider.check())
        self.mortal(self.customer, self.customer.sender.check())

    @rule(way=st.sampled_from(["lost", "unsent", "late", "late", "failed", "stuck", "internal"]))
    def wallet_misbehaves(self, way: str) -> None:
        self.customer.fake.next_pay = [way]

    @rule(steps=st.integers(0, 12), who=st.booleans())
    def doom(self, steps: int, who: bool) -> None:
        (self.provider if who else self.customer).death.left = steps

    @rule(seconds=st.sampled_from([1, 20, 700]))
    def wait(self, seconds: int) -> None:
        # They expire before a minute has passed.
        self.customer.fake.arrive()
        self.clock.advance(seconds)
        self.customer.fake.stuck.clear()
        # An outage: what waits has its minute from when the relay is back.
        self.mortal(self.customer, self.customer.recover())
        # A provider looks up what is open every few seconds.
        self.mortal(self.provider, self.provider.check())

    # --- what must hold -----------------------------------------------------------------------------------------

    @invariant()
    def no_work_beyond_the_credit(self) -> None:
        if hasattr(self, "provider"):
            account = self.run(accounts.load(self.provider.database, CUSTOMER))
            most = int(self.credit) + (2_000 if self.trial else 0)
            assert account.balance - int(account.held) >= -most

    @invariant()
    def never_two_payments_for_one_purpose(self) -> None:
        if hasattr(self, "provider"):
            moved = self.lightning.moved
            assert len(moved) == len(set(moved))
            rows = self.run(self.customer.database.fetch_all("SELECT payment_hash, job FROM money_payment"))
            jobs = [row[1] for row in rows if row[0] in moved]
            assert len(jobs) == len(set(jobs)) == len(moved)

    @invariant()
    def sums_are_those_of_the_entries(self) -> None:
        if hasattr(self, "provider"):
            for node in (self.provider, self.customer):
                entries = self.run(ledger_store.entries(node.database))
                assert self.run(ledger_store.sums(node.database)) == ledger.sums(entries)

    def reconcile(self) -> None:
        """Both come back, and hear everything that was ever published."""
        for node in (self.provider, self.customer):
            node.death.left = None
            self.run(node.database.close())
            self.run(node.start())
        self.customer.fake.next_pay = []
        self.customer.fake.arrive()
        self.customer.fake.stuck.clear()
        self.clock.advance(5_000)
        self.run(self.customer.recover())
        self.run(self.provider.recover())
        for message in list(self.wire.stored):
            if not hasattr(message, "invoice"):
                self.run(self.customer.receive(message))

    async def end(self) -> None:
        account = await accounts.load(self.provider.database, CUSTOMER)
        mirror = await mirror_store.load(self.customer.database, PROVIDER)
        paid = await mirror_store.paid(self.customer.database, PROVIDER)
        assert (mirror.ended, mirror.waiting) == (None, ())
        open_states = (PaymentState.RESERVED, PaymentState.SENDING, PaymentState.UNKNOWN)
        assert await payment_store.in_state(self.customer.database, *open_states) == []
        assert mirror.charged_total == account.charged_total
        assert (
            paid.settled
            == account.paid_total
            == sum(self.lightning.slips[h].sats * 1_000 for h in self.lightning.moved)
        )
        assert balance(mirror, paid) == account.balance
        theirs = await ledger_store.balance(self.provider.database, ledger.customer(CUSTOMER))
        ours = await ledger_store.balance(self.customer.database, ledger.provider(PROVIDER))
        assert theirs == ours == account.balance
        for node in (self.provider, self.customer):
            for what, before, after in await node.database.fetch_all("SELECT DISTINCT * FROM test_step"):
                assert may_follow(STATES[what](after), STATES[what](before)), (what, before, after)
            books = await audit.collect(node.database)
            assert audit.examine(books) == []
            assert await audit.compare_with_wallet(node.fake, books) == []


TestHistory = pytest.mark.timeout(600)(History.TestCase)
TestHistory.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)


def seeded_history(seed: int, steps: int) -> int:
    """One dense history; how many payments it took."""
    rng, history = random.Random(seed), History()
    history.begin(rng.choice([0, 0, 0, 3_000]), rng.random() < 0.5, rng.random() < 0.5, seed)
    ways = ["ok", "ok", "lost", "late", "stuck", "failed", "internal", "unsent"]
    moves = [
        lambda: history.exchange(
            rng.randint(500, 9_000), rng.randint(1, 3), rng.choice(ways), rng.choice(["", "provider", "customer"]),
            rng.randint(0, 30),
        ),
        lambda: history.exchange(rng.randint(5_000, 9_000), 2, "ok", "", 0),
        lambda: history.request(rng.randint(1, 9_000), rng.randint(0, 30), 2),
        history.deliver,
        history.look_up,
        history.lose,
        lambda: history.work(False),
        lambda: history.wait(rng.choice([1, 20, 700])),
    ]  # fmt: skip
    try:
        for _ in range(steps):
            rng.choice(moves)()
            history.no_work_beyond_the_credit()
            history.never_two_payments_for_one_purpose()
            history.sums_are_those_of_the_entries()
    finally:
        history.teardown()
    return len(history.lightning.moved)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("start", [0, 20, *(pytest.param(start, marks=pytest.mark.slow) for start in (40, 60, 80))])
def test_seeded_histories(start: int) -> None:
    paid = [seeded_history(seed, 8) for seed in range(start, start + 20)]
    # Histories in which nobody pays would prove nothing.
    assert sum(map(bool, paid)) >= 8, paid


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_a_thousand_histories() -> None:
    paid = [seeded_history(seed, 12) for seed in range(1_000, 2_000)]
    assert sum(map(bool, paid)) >= 600
