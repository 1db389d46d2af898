"""Choosing: the best step first, near-equals at random, at a cost that does not grow."""

import math
import random
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from pylon.swarm.dispatch.candidates import Candidates, step
from pylon.swarm.dispatch.pace import Recent


@dataclass(eq=False)
class Machine:
    provider: str
    step: int = -1
    index: int = 0


def chosen(candidates: Candidates[Machine], without: Collection[str] = (), *, seed: int = 1) -> str | None:
    found = candidates.choose(random.Random(seed), without)
    return None if found is None else found.provider


def test_near_equals_share_a_step_and_twice_as_slow_does_not() -> None:
    assert step(1.0) == step(1.02)
    assert step(2.0) > step(1.0)
    assert step(0.0) == 0
    assert step(math.inf) == step(1e9) == 63


def test_the_quickest_step_is_chosen_and_its_members_evenly() -> None:
    candidates = Candidates[Machine]()
    for n in range(4):
        candidates.put(Machine(f"quick{n}"), 3)
    candidates.put(Machine("slow"), 9)
    drawn = Counter(chosen(candidates, seed=seed) for seed in range(400))
    assert set(drawn) == {f"quick{n}" for n in range(4)}
    assert min(drawn.values()) > 60


def test_one_that_is_left_out_is_not_chosen_even_when_it_is_alone() -> None:
    candidates = Candidates[Machine]()
    candidates.put(Machine("a"), 3)
    assert candidates.choose(random.Random(), {"a"}) is None
    candidates.put(Machine("b"), 9)
    assert chosen(candidates, {"a"}) == "b"
    assert candidates.choose(random.Random(), {"a"}, worst=8) is None


def places(*steps: int) -> Candidates[Machine]:
    candidates = Candidates[Machine]()
    for at in steps:
        candidates.put(Machine(f"at {at}"), at)
    return candidates


def drawn(candidates: Candidates[Machine], **rules: int) -> Counter[str]:
    found = [candidates.choose(random.Random(seed), **rules) for seed in range(600)]
    return Counter(one.provider for one in found if one is not None)


def test_up_to_a_step_all_are_as_good_and_drawn_the_more_often_the_quicker_they_are() -> None:
    assert set(drawn(places(3, 4, 6, 7), alike=6)) == {"at 3", "at 4", "at 6"}
    often = drawn(places(3, 6), alike=6)
    # A step is a quarter, and these are three steps apart.
    assert 1.5 < often["at 3"] / often["at 6"] < 2.5
    assert set(drawn(places(5, 8), alike=4)) == {"at 5"}
    assert set(drawn(places(0, 3), alike=6)) == {"at 0"}, "an idle machine of our own comes before all"


def test_beyond_the_worst_step_nobody_is_chosen() -> None:
    assert drawn(places(9), worst=8) == Counter()
    assert set(drawn(places(9), worst=9)) == {"at 9"}
    assert set(drawn(places(3, 9), alike=20, worst=8)) == {"at 3"}


def test_whoever_is_turned_down_makes_way_for_the_next_step() -> None:
    found = places(3, 9).choose(random.Random(1), accept=lambda one: one.step > 3)
    assert found is not None and found.step == 9
    assert places(3, 9).choose(random.Random(1), accept=lambda one: False) is None


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(-1, 63))), st.sets(st.sampled_from("abcdef")))
def test_whatever_was_put_and_removed_the_choice_is_the_one_a_scan_would_make(
    moves: list[tuple[str, int]], without: set[str]
) -> None:
    candidates = Candidates[Machine]()
    machines = {key: Machine(key) for key in "abcdef"}
    places: dict[str, int] = {}
    for key, at in moves:
        if at < 0:
            candidates.remove(machines[key])
            places.pop(key, None)
        else:
            candidates.put(machines[key], at)
            places[key] = at
    assert candidates.count == len(places)
    allowed = {key: at for key, at in places.items() if key not in without}
    found = chosen(candidates, without)
    if found is None:
        assert not allowed
    else:
        assert allowed[found] == min(allowed.values())


@given(st.lists(st.floats(0, 100), max_size=60), st.sampled_from([0.5, 0.9]))
def test_recent_times_forget_the_oldest_and_know_their_quantiles(times: list[float], q: float) -> None:
    recent = Recent(size=20)
    for seconds in times:
        recent.add(seconds)
    kept = sorted(times[-20:])
    assert recent.count == len(kept)
    if kept:
        assert recent.quantile(q) == kept[min(len(kept) - 1, int(q * len(kept)))]
    else:
        assert recent.quantile(q) == math.inf


def test_when_the_first_would_be_done_is_its_step() -> None:
    candidates = Candidates[Machine]()
    assert candidates.soonest_s == math.inf
    for at in (40, 7, 0):
        machine = Machine(f"at {at}")
        candidates.put(machine, at)
        if at:
            assert step(candidates.soonest_s * 1.001) == at
    assert candidates.soonest_s == 0.0
