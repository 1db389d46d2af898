import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.nostr.client.backoff import PROBATION_SECONDS, SOON, STEADY_SECONDS, Backoff, Retries


class Counted(Backoff):
    """Waits as many seconds as there were failures in a row."""

    def delay(self, attempt, rng):
        return attempt


def retries():
    return Retries(Counted(), random.Random(0))


ends = st.fixed_dictionaries(
    {"lasted": st.floats(0, 2 * PROBATION_SECONDS), "answered": st.booleans(), "flooded": st.booleans()}
)


@pytest.mark.parametrize("attempt", [1, 2, 5, 50])
def test_the_wait_doubles_up_to_its_limit_with_up_to_half_taken_away(attempt):
    delay = Backoff(first=1.0, most=60.0).delay(attempt, random.Random(attempt))
    full = min(60.0, 2.0 ** (attempt - 1))
    assert full / 2 <= delay <= full


def test_a_relay_that_takes_connections_and_hangs_up_is_tried_later_each_time():
    tried = retries()
    assert [tried.lost(0.1) for _ in range(4)] == [1, 2, 3, 4]


def test_one_that_was_there_for_a_while_is_tried_soon_however_long_it_was_away_before():
    tried = retries()
    for _ in range(9):
        tried.lost(0.0)
    assert [tried.lost(STEADY_SECONDS), tried.lost(0.0)] == [1, 2]


def test_one_that_answers_and_hangs_up_is_tried_soon_but_not_at_once():
    tried = retries()
    assert [tried.lost(0.1, answered=True) for _ in range(5)] == [1, 2, SOON, SOON, SOON]
    for _ in range(9):
        tried.lost(0.0)
    assert tried.lost(0.1, answered=True) == SOON


def test_one_that_floods_us_is_tried_later_each_time_although_it_was_there_for_a_while():
    tried = retries()
    assert [tried.lost(STEADY_SECONDS, answered=True, flooded=True) for _ in range(3)] == [1, 2, 3]
    assert tried.lost(PROBATION_SECONDS, flooded=True) == 1


@given(st.lists(ends))
def test_a_wait_grows_by_one_failure_at_a_time_unless_it_floods(history):
    tried, before = retries(), 0
    for end in history:
        waits = tried.lost(**end)
        assert waits >= 1
        assert end["flooded"] or waits <= before + 1
        before = waits
