"""Who waits for a payment: whatever happens, each job stands in one place, and whoever is gone nowhere."""

from types import SimpleNamespace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pylon.provider.payments.fair_queue import PATIENCE_S as TO_MAKE_ROOM_S
from pylon.provider.payments.waiting import PATIENCE_S, Waiting

MOST = 3
IDS = [f"{customer}{number}" for customer in "abc" for number in range(2)]
jobs, customers = st.sampled_from(IDS), st.sampled_from("abc")


def job(id_: str, at: float = 0.0) -> SimpleNamespace:
    """A job of the customer whose name its id begins with; those of odd numbers came over another relay."""
    request = SimpleNamespace(customer=id_[0])
    terms = SimpleNamespace(expires_at=at + 10_000)
    return SimpleNamespace(id=id_, request=request, relay=f"ws://{int(id_[1]) % 2}", terms=terms, received_at=at)


def invoice(payment_hash: str) -> SimpleNamespace:
    return SimpleNamespace(payment_hash=payment_hash)


class Rooms(RuleBasedStateMachine):
    """What happens at a payment gate, in any order, beside plain sets that say who should be where."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting, self.now = Waiting(MOST), 0.0
        self.here: dict[str, SimpleNamespace] = {}
        self.asked: set[str] = set()

    @rule(id_=jobs, newcomer=st.booleans())
    def comes(self, id_, newcomer):
        if id_ in self.here:
            return
        room = self.waiting.has_room(self.now)
        if not newcomer or self.waiting.makes_room(self.now):
            assert room or not newcomer
            self.here[id_] = job(id_, self.now)
            self.waiting.add(self.here[id_], newcomer=newcomer)

    @rule(id_=jobs)
    def still_waits(self, id_):
        if id_ in self.here:
            self.waiting.add(self.here[id_])

    @rule(id_=jobs)
    def goes(self, id_):
        self.waiting.remove(id_)
        self.here.pop(id_, None)
        self.waiting.left(id_[0])

    @rule(customer=customers)
    def is_being_asked(self, customer):
        self.waiting.asks(customer)
        self.asked.add(customer)

    @rule(customer=customers)
    def was_asked(self, customer):
        self.waiting.asked(customer)
        self.asked.discard(customer)

    @rule(id_=jobs)
    def must_come_back_later(self, id_):
        self.waiting.stand_in_line(self.here.get(id_, job(id_)))

    @rule()
    def has_its_turn(self):
        one = self.waiting.next_in_line()
        if one is not None:
            assert one.request.customer not in self.asked
            self.waiting.invoiced(one)
            assert one.request.customer in [*self.waiting.behind_invoices()]

    @rule(id_=jobs, payment_hash=st.sampled_from("xy"))
    def is_told(self, id_, payment_hash):
        issued = invoice(payment_hash)
        assert self.waiting.tell(id_, issued) <= (id_ in self.here)
        assert not self.waiting.tell(id_, issued), "once is enough"
        told = self.waiting.told(id_)
        assert (told is not None) == (id_ in self.here) and told in (None, issued)

    @rule(customer=customers, misfits=st.booleans())
    def has_a_misfit(self, customer, misfits):
        self.waiting.misfits(customer, misfits)
        known = any(id_[0] == customer for id_ in self.here) or customer in self.asked
        assert self.waiting.is_misfit(customer) == (misfits and known)

    @rule(customer=customers)
    def pays(self, customer):
        self.waiting.has_paid(customer)
        assert not any(one.request.customer == customer for one in self.waiting._newcomers)

    @rule(seconds=st.sampled_from([1.0, TO_MAKE_ROOM_S, PATIENCE_S]))
    def time_passes(self, seconds):
        self.now += seconds

    @invariant()
    def a_job_is_here_once_and_counted_once(self):
        listed = [one.id for customer in "abc" for one in self.waiting.of_customer(customer)]
        assert sorted(listed) == sorted(self.here)
        assert len(self.waiting) == len(self.here)
        assert all((id_ in self.waiting) == (id_ in self.here) for id_ in IDS)

    @invariant()
    def what_is_gone_has_left_no_trace(self):
        waiting = self.waiting
        assert {one.id for one in (*waiting._newcomers, *waiting._line)} <= self.here.keys()
        assert waiting._customers.keys() == {one.request.customer for one in self.here.values()} | self.asked

    @invariant()
    def newcomers_are_no_more_than_may_wait(self):
        assert self.waiting.newcomers <= MOST

    @invariant()
    def who_is_late_has_waited_or_makes_room(self):
        late = {one.id for one in self.waiting.late(self.now)}
        for id_, one in self.here.items():
            waited = self.now - one.received_at
            assert waited < PATIENCE_S or id_ in late
            assert id_ not in late or waited >= TO_MAKE_ROOM_S
        assert late <= self.here.keys()

    @invariant()
    def whoever_is_asked_or_stands_in_line_is_behind_no_invoice(self):
        behind, in_line = self.waiting.behind_invoices(), {one.request.customer for one in self.waiting._line}
        assert len(behind) == len({*behind})
        assert {*behind} == {one.request.customer for one in self.here.values()} - self.asked - in_line


TestRooms = Rooms.TestCase
TestRooms.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


def test_that_a_job_left_is_heard_of_once_and_only_by_a_customer_who_waits():
    waiting = Waiting(MOST)
    waiting.left("a")
    waiting.add(job("a0"))
    assert not waiting.had_left("a")
    waiting.left("a")
    assert (waiting.had_left("a"), waiting.had_left("a")) == (True, False)


def test_who_makes_room_for_another_is_late_at_once_and_waits_until_it_has_heard_so():
    waiting = Waiting(1)
    waiting.add(job("a0"), newcomer=True)
    assert not waiting.has_room(TO_MAKE_ROOM_S - 1) and not waiting.makes_room(TO_MAKE_ROOM_S - 1)
    assert waiting.has_room(TO_MAKE_ROOM_S)
    assert waiting.late(TO_MAKE_ROOM_S) == []
    assert waiting.makes_room(TO_MAKE_ROOM_S)
    assert [one.id for one in waiting.late(TO_MAKE_ROOM_S)] == ["a0"]
    assert "a0" in waiting and waiting.newcomers == 0


def test_newcomers_stand_behind_those_in_line_until_it_is_their_turn():
    waiting = Waiting(MOST)
    first, second, regular = job("a0"), job("b0"), job("c0")
    for one in (first, second):
        waiting.add(one, newcomer=True)
    waiting.add(regular)
    assert not waiting.must_stand_in_line(first)
    assert waiting.stand_in_line(first) and not waiting.stand_in_line(first)
    assert waiting.must_stand_in_line(second) and not waiting.must_stand_in_line(regular)
    assert not waiting.must_stand_in_line(first), "whoever stands there is decided on when it is its turn"


def test_whoever_has_an_invoice_stands_in_line_with_none_of_its_jobs():
    waiting = Waiting(MOST)
    for one in (job("a0"), job("a1"), job("b0")):
        waiting.add(one, newcomer=True)
        waiting.stand_in_line(one)
    waiting.invoiced(job("a0"))
    assert waiting.next_in_line().id == "b0"
    waiting.invoiced(job("b0"))
    assert waiting.next_in_line() is None
    assert waiting.behind_invoices() == ["a", "b"]
