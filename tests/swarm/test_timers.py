"""Timers: what is due is done in order, whatever came in between."""

import math
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from pylon.swarm.dispatch.timers import Timers
from tests.swarm.fakes import first_due

# Within one interval, in neighbours, and far away; some in the past, some never.
_TIMES = st.one_of(st.floats(-1, 3), st.sampled_from([0.05, 0.1, 0.1500001, 1.0, math.inf]), st.floats(3, 1e7))
_STEPS = st.lists(st.tuples(st.sampled_from(["at", "run", "end"]), _TIMES), max_size=60)


@dataclass(eq=False)
class Thing:
    done: list[float] = field(default_factory=list)
    live: bool = True


@given(_STEPS)
def test_what_is_due_and_still_matters_is_done_once_by_time_and_then_by_age(steps: list[tuple[str, float]]) -> None:
    timers, waiting = Timers(), list[tuple[float, int, Thing]]()
    did: list[Thing] = []
    for n, (what, when) in enumerate(steps):
        if what == "at":
            thing = Thing()
            timers.at(when, lambda thing, now: did.append(thing), thing)
            waiting.append((when, n, thing))
        elif what == "end" and waiting:
            waiting[n % len(waiting)][2].live = False
        elif what == "run" and when < math.inf:
            due = sorted(timer for timer in waiting if timer[0] <= when)
            waiting = [timer for timer in waiting if timer[0] > when]
            timers.run(when)
            assert did == [thing for _, _, thing in due if thing.live]
            did.clear()
        assert first_due(timers) == min((timer[0] for timer in waiting), default=None)
        assert len(timers) == len(waiting)


def test_what_is_entered_while_others_are_done_has_its_turn_at_once_when_it_is_due() -> None:
    timers, did = Timers(), list[str]()

    def then(thing: Thing, now: float) -> None:
        did.append("first")
        timers.at(now - 1, lambda _, now: did.append("late"), thing)
        timers.at(now + 0.001, lambda _, now: did.append("next"), thing)

    timers.at(10.0, then, Thing())
    timers.at(10.0, lambda _, now: did.append("second"), Thing())
    timers.run(10.0)
    assert did == ["first", "late", "second"]
    timers.run(10.001)
    assert did[3:] == ["next"]


def test_what_does_not_matter_any_more_is_thrown_away_in_time() -> None:
    timers = Timers()
    for n in range(10_000):
        thing = Thing(live=n % 10 == 0)
        timers.at(60 + n / 100, lambda thing, now: thing.done.append(now), thing)
    assert len(timers) <= 2 * 1_024
    assert first_due(timers) == 60.0
