"""Random histories of the gateway's budget and the RLM's, over the names of a core that dies and forgets them.

What providers charge is the truth: it goes on when the core that ordered it is gone. No budget may count less than
that, or let more be spent than its limit.
"""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pylon import unsettled
from pylon.clock import SystemClock
from pylon.errors import UnreachableError
from pylon.gateway import unsettled as gateway_unsettled
from pylon.gateway.budget import Budget, Cost, Wait
from pylon.node.calls.protocol import Result
from pylon.node.calls.reservations import KEEP_S, Reservations
from pylon.node.rlm.sublm import SwarmSubLM
from pylon.rlm import unsettled as rlm_unsettled
from pylon.rlm.batch import Batch, Call, Caller
from pylon.rlm.budget import NOTHING, Limits, Refusal, Reservation
from pylon.rlm.budget import Budget as RlmBudget
from pylon.rlm.budget import Cost as RlmCost
from pylon.rlm.charges import ExtraCharge, OpenCharge, Reserved
from pylon.rlm.gate import Gate
from pylon.rlm.late import LateCharges
from pylon.rlm.sublm import Job, SubAnswer
from pylon.swarm.dispatch.budget import RunBudget

CHARGE, END, DECIDE, ANSWER, HANG_UP, ROUND, DIE, PASS = range(8)
STEPS = st.lists(st.tuples(st.integers(0, 150), st.sampled_from(range(8)), st.integers(0, 10**6)), max_size=60)


class Hand:
    """In the place of `Rounds`: a test says when a round is, and of which names."""

    def __init__(self, work, _name):
        self.work = work
        self.names = []

    def add(self, name):
        self.names.append(name)

    async def round(self, rng):
        some = [name for name in self.names if rng.random() < 0.7]
        again = await self.work(some)
        self.names = [name for name in self.names if name not in some or name in again]


@pytest.fixture(scope="module", autouse=True)
def by_hand():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(unsettled, "Rounds", Hand)
        yield


class Passing:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


class Question:
    """One call: what the core has of it, and what was charged, whoever knows of it."""

    def __init__(self, core, name, most, *, arrives):
        self.core, self.name, self.most = core, name, most
        self.budget = RunBudget(most)
        self.alive = arrives
        # Nobody could say what became of it.
        self.lost = False
        if arrives:
            self.call = core.reservations.of({"budget_msat": most, "reservation": name})
            self.reservation = self.call.__enter__()
            self.reservation.begin(self.budget)

    def charge(self, part):
        """A provider charges a part of what is left, which was out or was given up."""
        msat = part % (self.budget.limit - self.budget.spent + 1)
        if self.budget.over:
            msat = min(msat, self.budget.open)
            self.budget.open -= msat
        if self.alive or self.budget.over or self.budget.open:
            self.budget.spent += msat

    def end(self, part):
        """The core asks nobody for it any more; a part of what is left may be charged yet."""
        if self.alive:
            self.alive = False
            self.budget.open, self.budget.over = part % (self.budget.left + 1), True
            self.call.__exit__(None, None, None)

    def decide(self):
        if self.budget.over:
            self.budget.open = 0


class Core:
    """As node and as upstream; `reached` says whether it answers."""

    def __init__(self):
        self.clock = Passing()
        self.reservations = Reservations(self.clock)
        self.questions = []
        self.reached = True
        # What happens between a question after names and its answer.
        self.meanwhile = lambda: None

    def ask(self, name, most, *, arrives=True):
        self.questions.append(Question(self, name, most, arrives=arrives))
        return self.questions[-1]

    def die(self):
        """What it had ordered may be charged all the same, and it forgets the names."""
        for question in self.questions:
            question.end(10**6)
        self.reservations = Reservations(self.clock)

    @property
    def charged(self):
        return sum(question.budget.spent for question in self.questions)

    async def result(self, _method, params):
        if not self.reached:
            raise UnreachableError("no node is running here")
        told = self.reservations.rows(params)
        for question in self.questions:
            if question.name in params["names"]:
                question.lost = told["reservations"][question.name] is None
        self.meanwhile()
        return told

    async def call(self, method, params=None):
        yield Result(await self.result(method, params))


class History:
    """What goes on at any time, whoever asks."""

    def __init__(self, rng):
        self.core, self.rng = Core(), rng
        # Calls that somebody waits for.
        self.out = []

    def step(self, what, part):
        core = self.core
        questions = core.questions
        question = self.rng.choice(questions) if questions else None
        if what == CHARGE and question:
            question.charge(part)
        elif what == END and question:
            question.end(part)
        elif what == DECIDE and question:
            question.decide()
        elif what == ANSWER and self.out:
            self.answer(self.out.pop(self.rng.randrange(len(self.out))), part)
        elif what == HANG_UP and self.out:
            self.leave(self.out.pop(self.rng.randrange(len(self.out))))
        elif what == DIE:
            core.reached = part % 3 > 0
            core.die()
            # Whoever waits hears that it is gone.
            for one in self.out:
                self.leave(one)
            self.out = []
        elif what == PASS:
            core.clock.now += part % int(2 * KEEP_S)

    async def play(self, steps, hand):
        for most, what, part in steps:
            # In the middle of a round another step is taken.
            later = self.rng.choice(steps)
            self.core.meanwhile = lambda later=later: (self.step(*later[1:]), self.check())
            self.begin(most, arrives=part % 7 > 0)
            self.check()
            if what == ROUND:
                await hand.round(self.rng)
            else:
                self.step(what, part)
            self.check()
        await self.end(hand)

    async def end(self, hand):
        """Everything comes to its end, and is known as far as it can be."""
        core = self.core
        core.reached, core.meanwhile = True, lambda: None
        for one in self.out:
            self.leave(one)
        self.out = []
        for question in core.questions:
            question.end(self.rng.randrange(10**6))
        await hand.round(self.rng)
        for question in core.questions:
            question.charge(self.rng.randrange(10**6))
            self.check()
            question.decide()
        for _ in range(200):
            if not hand.names:
                break
            await hand.round(self.rng)
            self.check()
        assert not hand.names
        self.check()


class OfGateway(History):
    def __init__(self, limit, rng):
        super().__init__(rng)
        self.budget = Budget(limit)
        self.unsettled = gateway_unsettled.Unsettled(self.core, self.budget, lambda: None)

    def begin(self, most, *, arrives):
        held = self.budget.hold(most, tries=1 + self.rng.randrange(3))
        if isinstance(held, int) and held:
            self.out.append(self.core.ask(f"{len(self.core.questions)}", held, arrives=arrives and self.core.reached))
        elif isinstance(held, Wait):
            # Somebody is under way, or waited for.
            assert self.budget.held

    def answer(self, question, part):
        if not question.alive:
            self.leave(question)
            return
        question.end(part)
        cost = Cost(question.budget.spent, question.budget.most)
        self.budget.settle(question.most, cost)
        if cost.open:
            self.unsettled.ended(question.name, cost)

    def leave(self, question):
        self.unsettled.left(question.name, question.most)

    def check(self):
        budget = self.budget
        assert self.core.charged <= budget.spent + budget.open + budget.held <= budget.limit
        assert min(budget.spent, budget.open, budget.held) >= 0


class OfRlm(History):
    def __init__(self, limit, rng):
        super().__init__(rng)
        self.gate = Gate(SystemClock())
        self.budget = RlmBudget(Limits(msat=limit), now=0.0)
        self.unsettled = rlm_unsettled.Unsettled(self.gate)
        self.late = LateCharges(self.unsettled, None)
        self.late.close()
        self.sub = SwarmSubLM(self.core)
        self.loop = asyncio.get_running_loop()

    def begin(self, most, *, arrives):
        granted = self.budget.reserve(RlmCost(most), now=0.0)
        if not most or isinstance(granted, Refusal):
            if isinstance(granted, Reservation):
                self.budget.settle(granted, NOTHING)
            return
        caller = Caller("0", self.budget, 1)
        call = Call("0", caller, Job("q", most_msat=most), self.loop.create_future(), {}, reservation=granted)
        batch = Batch(self.budget, [call], self.gate, now=0.0)
        name = f"{len(self.core.questions)}"
        batch.tab.hear(Reserved(name, self.sub))
        question = self.core.ask(name, batch.most_msat, arrives=arrives and self.core.reached)
        self.out.append((question, batch))

    def answer(self, asked, part):
        question, batch = asked
        if question.alive:
            question.end(part)
            spent, price = question.budget.spent, batch._calls[0].job.most_msat
            beside = max(0, spent - price)
            if beside:
                batch.tab.hear(ExtraCharge(beside))
                self.budget.book(RlmCost(beside))
            answer = SubAnswer("a", "p", "m", 0, 0, spent - beside, 0, 0, 0, 1)
            batch._calls[0].spent = RlmCost(answer.msat)
            batch.tab.hear(OpenCharge(question.budget.open))
        self.leave(asked)

    def leave(self, asked):
        asked[1].end(self.late)

    def check(self):
        budget = self.budget
        taken = budget.spent + budget.reserved + budget.kept
        assert self.core.charged <= taken.msat <= budget.limits.msat
        assert min(budget.spent.msat, budget.reserved.msat, budget.kept.msat) >= 0


@settings(deadline=None)
@given(st.integers(0, 1_000), STEPS, st.randoms(use_true_random=False))
async def test_no_history_of_the_gateway_counts_less_than_was_charged_or_spends_more_than_its_limit(
    limit, steps, rng
):
    history = OfGateway(limit, rng)
    await history.play(steps, history.unsettled._rounds)
    budget, questions = history.budget, history.core.questions
    assert (budget.held, budget.open) == (0, 0)
    # What a core that is gone did not say counts as charged, and nothing else does.
    lost = sum(question.most for question in questions if question.lost)
    assert history.core.charged <= budget.spent <= history.core.charged + lost


@settings(deadline=None)
@given(st.integers(0, 1_000), STEPS, st.randoms(use_true_random=False))
async def test_no_history_of_the_rlm_counts_less_than_was_charged_or_spends_more_than_its_limit(limit, steps, rng):
    history = OfRlm(limit, rng)
    await history.play(steps, history.unsettled._rounds)
    budget, questions = history.budget, history.core.questions
    assert budget.reserved == NOTHING
    lost = sum(question.most for question in questions if question.lost)
    assert history.core.charged <= budget.spent.msat + budget.kept.msat <= history.core.charged + lost
