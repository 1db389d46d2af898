"""The window that prompts of a run are cut to, among providers who announce what they like."""

from hypothesis import given
from hypothesis import strategies as st

from pylon.node.rlm.window import BELIEVED_SLOTS, Announced, window_of

STRANGER, PROVEN, OWN = 0.5, 0.8, 1.0
some = st.builds(
    Announced, st.integers(0, 200_000), st.integers(0, 10**9), st.sampled_from((0.1, STRANGER, PROVEN, OWN))
)
everybody = st.lists(some, max_size=12)


def test_half_of_the_slots_decide():
    few, many = Announced(4_096, 4, STRANGER), Announced(32_768, 8, STRANGER)
    assert window_of([few, many]) == 32_768
    assert window_of([few, few, many]) == 32_768
    assert window_of([few, few, few, many]) == 4_096


def test_slots_that_a_stranger_announces_do_not_outvote_the_others():
    honest = [Announced(8_192, 16, STRANGER)] * 2
    assert window_of([*honest, Announced(1, 10**9, STRANGER)]) == 8_192


def test_ones_own_machine_is_not_outvoted_by_keys_that_cost_nothing():
    assert window_of([Announced(8_192, 1, OWN), *[Announced(1, 64, STRANGER)] * 1_000]) == 8_192
    assert window_of([Announced(8_192, 1, OWN), *[Announced(10**6, 64, STRANGER)] * 1_000]) == 8_192


def test_ones_own_slots_count_whole():
    mine = Announced(8_192, 4 * BELIEVED_SLOTS, OWN)
    assert window_of([mine, *[Announced(1, 10**6, PROVEN)] * 4]) == 8_192


def test_who_says_nothing_of_its_window_decides_nothing_and_takes_any():
    silent = Announced(0, 64, STRANGER)
    assert window_of([silent]) == window_of([]) == 0
    assert window_of([silent, Announced(2_048, 1, STRANGER)]) == 2_048
    assert silent.holds(2_048) and not Announced(1, 64, STRANGER).holds(2_048)


@given(everybody)
def test_at_least_half_of_those_who_decide_can_take_what_is_cut_to_it(ready):
    window = window_of(ready)
    telling = [one for one in ready if one.context and one.weight]
    deciding = [one for one in telling if one.trust > STRANGER] or telling
    assert (window == 0) == (not deciding)
    able = sum(one.weight for one in deciding if one.context >= window)
    more = sum(one.weight for one in deciding if one.context > window)
    assert 2 * able >= sum(one.weight for one in deciding)
    assert not deciding or 2 * more < sum(one.weight for one in deciding)


@given(everybody, st.lists(st.builds(Announced, st.integers(0, 10**6), st.integers(0, 10**9), st.just(STRANGER))))
def test_strangers_do_not_move_what_known_ones_decide(ready, strangers):
    known = [one for one in ready if one.trust > STRANGER and one.context and one.weight]
    assert not known or window_of([*ready, *strangers]) == window_of(known)
