"""What asks are charged when they are over: set aside until it is known, in a budget that others spend from too."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pylon import rounds, unsettled
from pylon.clock import SystemClock
from pylon.errors import UnreachableError
from pylon.node.calls.protocol import Result
from pylon.node.calls.reservations import Reservations
from pylon.node.rlm.sublm import SwarmSubLM
from pylon.rlm.batch import Caller
from pylon.rlm.budget import NOTHING, Budget, Cost, Limits, Refusal, Reservation
from pylon.rlm.calls import SubCallRunner
from pylon.rlm.charges import ExtraCharge, OpenCharge, Reserved, Tab
from pylon.rlm.gate import Gate
from pylon.rlm.late import LateCharges
from pylon.rlm.loop_state import Reason
from pylon.rlm.roots import SwarmRoot
from pylon.rlm.settings import LoopSettings, SubSettings
from pylon.rlm.shared_budget import SharedBudget
from pylon.rlm.sublm import FunctionSubLM
from pylon.rlm.trajectory import Trajectory
from pylon.rlm.unsettled import Unsettled
from pylon.unsettled import CameTo
from tests.manual_clock import ManualClock
from tests.rlm.fakes import Stage
from tests.waiting import until


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(rounds, "SOON_S", 0.005)
    monkeypatch.setattr(rounds, "FIRST_S", 0.01)
    monkeypatch.setattr(rounds, "LONGEST_S", 0.01)


class Charging(FunctionSubLM):
    """Answers when it is let, tells `open_msat` at the end, and `found` of every ask when it is asked after it."""

    def __init__(self, *, open_msat=0, **options):
        self.let = asyncio.Event()
        super().__init__(self.wait, msat=300, most_msat=900, **options)
        self.open_msat = open_msat
        self.found = CameTo(0, 0, False, False)
        self.budgets = []

    async def wait(self, prompt):
        await self.let.wait()
        return prompt

    async def ask(self, jobs, *, budget_msat=None):
        self.budgets.append(budget_msat)
        yield Reserved(f"ask {len(self.budgets)}", self)
        async for came in super().ask(jobs):
            yield came
        yield OpenCharge(self.open_msat)

    async def came_to(self, names):
        await asyncio.sleep(0)
        if isinstance(self.found, Exception):
            raise self.found
        return dict.fromkeys(names, self.found)


class Shared:
    """A purse of 10,000 msat, and a run that spends from it until `close`."""

    def __init__(self, folder, sub, *, wall_s=None):
        # No time passes before an ask is out, and it has `wall_s` from then.
        clock = ManualClock()
        self.shared_budget = SharedBudget(Limits(msat=10_000), clock)
        self.budget = Budget(Limits(wall_s=wall_s), now=clock.monotonic(), parent=self.shared_budget.budget)
        self.trajectory = Trajectory(folder / "run", clock)
        self.late = LateCharges(self.shared_budget.unsettled, self.trajectory)
        self.room = SubCallRunner(sub, SubSettings(), self.shared_budget.gate, self.trajectory, clock, self.late)

    async def ask(self, *prompts):
        return await self.room.ask(Caller("0", self.budget, 1), prompts, prompts, None)

    @property
    def books(self):
        """What is spent, what others wait for, what nobody waits for."""
        above = self.shared_budget.budget
        return above.spent.msat, above.reserved.msat, above.kept.msat

    def wants(self, msat):
        granted = []
        self.shared_budget.gate.enter(self.shared_budget.budget, Cost(msat), granted.append)
        return granted


async def test_a_run_that_ends_while_calls_are_out_leaves_no_more_to_the_others_than_is_not_charged_for_them(
    tmp_path,
):
    sub = Charging()
    shared = Shared(tmp_path, sub, wall_s=0.1)
    [outcome] = await shared.ask("a")
    assert outcome.code == "budget_wall_time"
    # The price, and three more for what it may cost beside it; whoever wants more than the rest waits for a word.
    assert sub.budgets == [3_600] and shared.books == (0, 3_600, 0)
    granted = shared.wants(8_000)
    await asyncio.sleep(0.05)
    assert not granted
    sub.found = CameTo(0, 900, True, False)
    await until(lambda: granted)
    assert isinstance(granted[0], Reservation) and shared.books == (0, 8_000, 900)
    [refused] = shared.wants(9_101)
    assert isinstance(refused, Refusal) and not refused.waits
    sub.found = CameTo(300, 300, True, True)
    await until(lambda: shared.books == (300, 8_000, 0))
    assert not len(shared.shared_budget.unsettled) and not shared.budget._open
    await shared.shared_budget.close()


async def test_what_may_be_charged_after_all_answers_came_stays_set_aside_and_is_written_down_when_it_is(tmp_path):
    sub = Charging(open_msat=500)
    shared = Shared(tmp_path, sub)
    sub.let.set()
    sub.found = CameTo(300, 800, True, False)
    [outcome] = await shared.ask("a")
    assert outcome.msat == 300 and shared.books == (300, 0, 500)
    sub.found = CameTo(420, 420, True, True)
    await until(lambda: shared.books == (420, 0, 0))
    lines = [
        line for line in (shared.trajectory.folder / "events.jsonl").read_text().splitlines() if "charged" in line
    ]
    assert len(lines) == 1 and '"msat":120' in lines[0]
    await shared.shared_budget.close()


async def test_a_run_that_is_over_has_a_whole_record_and_its_late_charges_are_booked_all_the_same(tmp_path):
    sub = Charging(open_msat=500)
    shared = Shared(tmp_path, sub)
    sub.let.set()
    sub.found = CameTo(300, 800, True, False)
    await shared.ask("a")
    await shared.room.close()
    shared.late.close()
    before = shared.trajectory.count
    sub.found = CameTo(800, 800, True, True)
    await until(lambda: shared.books == (800, 0, 0))
    assert shared.trajectory.count == before
    await shared.shared_budget.close()


@pytest.mark.parametrize("found", [None, UnreachableError("the node ended")])
async def test_what_nobody_can_say_is_waited_for_by_nobody_and_given_to_nobody(tmp_path, found):
    sub = Charging()
    shared = Shared(tmp_path, sub, wall_s=0.05)
    sub.found = found
    await shared.ask("a")
    await until(lambda: shared.books == (0, 0, 3_600))
    await asyncio.sleep(0.05)
    assert shared.books == (0, 0, 3_600)
    assert len(shared.shared_budget.unsettled) == (found is not None)
    await shared.shared_budget.close()


async def test_a_word_that_does_not_come_is_not_waited_for_without_end(tmp_path, monkeypatch):
    class Silent(Charging):
        async def came_to(self, names):
            await asyncio.Event().wait()

    monkeypatch.setattr(unsettled, "WORD_S", 0.05)
    shared = Shared(tmp_path, Silent(), wall_s=0.05)
    await shared.ask("a")
    await until(lambda: shared.books == (0, 0, 3_600))
    await shared.shared_budget.close()


async def test_more_asks_than_a_core_takes_in_one_call_are_asked_after_in_several():
    class Core:
        """The asks of a core, by the call of the real one."""

        def __init__(self):
            self.reservations = Reservations(SystemClock())

        async def call(self, method, params=None):
            yield Result(self.reservations.rows(params))

    core = Core()
    sub = SwarmSubLM(core)
    late, budget = Unsettled(Gate(SystemClock())), Budget(Limits(msat=20_000), now=0.0)
    for number in range(10_001):
        with core.reservations.of({"budget_msat": 1, "reservation": f"{number}"}):
            pass
        late.over(Reserved(f"{number}", sub), budget, charged=0, most=1, known=True, note=lambda _: None)
    assert budget.kept.msat == 10_001
    await until(lambda: not len(late))
    assert (budget.spent, budget.kept) == (NOTHING, NOTHING)
    await late.close()


async def test_a_roots_turn_that_is_cancelled_stays_set_aside_until_it_is_known(tmp_path):
    sub = Charging()
    root = SwarmRoot(sub, "m", 4_096)
    shared_budget = SharedBudget(Limits(msat=100_000), SystemClock())
    stage = Stage(tmp_path, root, settings=LoopSettings(root_timeout_s=0.2, last_s=0.2), shared_budget=shared_budget)
    assert (await stage.run(limits=Limits(msat=100_000))).reason is Reason.ROOT_SILENT
    # A root that never said a word has no last turn.
    assert len(sub.budgets) == 1
    assert shared_budget.budget.reserved.msat + shared_budget.budget.kept.msat == sum(sub.budgets)
    sub.found = CameTo(700, 700, True, True)
    await until(
        lambda: (
            (shared_budget.budget.spent.msat, shared_budget.budget.reserved.msat, shared_budget.budget.kept.msat)
            == (700, 0, 0)
        )
    )
    await shared_budget.close()


def test_a_tab_that_is_not_whole_can_come_to_all_that_may_be_spent_and_one_that_costs_nothing_later_to_no_more():
    tab = Tab()
    assert tab.most(300, 3_600) == 300
    tab.hear(Reserved("a", Charging()))
    assert tab.most(300, 3_600) == 3_600
    tab.hear(ExtraCharge(50))
    tab.hear(OpenCharge(20))
    assert tab.most(300, 3_600) == 370


_WORDS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=3)
_ASKS = st.lists(st.tuples(st.integers(1, 60), st.floats(0, 1), st.booleans(), _WORDS), max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 120), _ASKS, st.randoms(use_true_random=False))
async def test_no_history_of_asks_is_over_the_budget_and_all_that_was_not_charged_comes_back(limit, asks, rng):
    gate = Gate(SystemClock())
    budget, late = Budget(Limits(msat=limit), now=0.0), Unsettled(gate)
    # Nobody but this history says what asks came to.
    await late.close()
    # By the name: what was booked, the most that it can come to, and the words that are still to come of it.
    said, charged = {}, 0

    def in_bounds():
        assert budget.spent.msat == charged
        assert budget.spent.msat + budget.reserved.msat + budget.kept.msat <= limit

    def hear():
        nonlocal charged
        name = rng.choice(list(said))
        booked, most, words = said[name]
        share, rest = words.pop() if words else (0.0, 0.0)
        now = booked + int(share * (most - booked))
        most = now + int(rest * (most - now))
        charged += now - booked
        said[name] = (now, most, words)
        late._hear(name, CameTo(now, most, True, now == most))
        if now == most:
            del said[name]
        in_bounds()

    for number, (price, share, known, words) in enumerate(asks):
        granted = budget.reserve(Cost(price), now=0.0)
        if isinstance(granted, Refusal):
            if said:
                hear()
            continue
        in_bounds()
        spent, name = int(share * price), f"ask {number}"
        charged += spent
        if spent < price:
            late.over(Reserved(name, Charging()), budget, charged=spent, most=price, known=known, note=lambda _: None)
            said[name] = (spent, price, words)
        gate.settle(budget, granted, Cost(spent))
        in_bounds()
    while said:
        hear()
    assert (budget.reserved, budget.kept, budget.spent) == (NOTHING, NOTHING, Cost(charged))
