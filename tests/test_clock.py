"""A clock that was set is told from a machine that slept, and both from time that passes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.clock import ClockMoves, SystemClock
from tests.manual_clock import ManualClock

DAY = 86_400.0


@pytest.mark.parametrize(
    ("move", "seconds", "said"),
    [
        ("set_by", 10_800, "this machine's clock was set 10800 s ahead"),
        ("set_by", -10_800, "this machine's clock was set 10800 s back"),
        ("set_by", 29, ""),
        ("sleep", 28_800, "this machine slept for 28800 s"),
        ("sleep", 29, ""),
        ("advance", 28_800, ""),
    ],
)
def test_what_moved_the_clock_is_said(move, seconds, said):
    clock = ManualClock()
    moves = ClockMoves(clock)
    getattr(clock, move)(seconds)
    assert moves.in_words() == said


@given(st.lists(st.floats(-DAY, DAY)), st.lists(st.floats(0, DAY)), st.lists(st.floats(0, DAY)))
def test_steps_and_sleeps_add_up_and_time_that_passes_counts_for_nothing(steps, sleeps, passing):
    clock = ManualClock()
    moves = ClockMoves(clock)
    for way, amounts in ((clock.set_by, steps), (clock.sleep, sleeps), (clock.advance, passing)):
        for seconds in amounts:
            way(seconds)
    moved = sum(steps) + sum(sleeps)
    if abs(abs(moved) - 30) > 0.1:
        assert bool(moves.in_words()) == (abs(moved) > 30)


def test_the_clocks_of_this_machine_stay_together_while_nobody_moves_them():
    clock = SystemClock()
    moves, began = ClockMoves(clock), clock.boot()
    assert moves.in_words() == ""
    assert clock.boot() >= began
