"""What is learnt of how long things take."""

import math

from hypothesis import given
from hypothesis import strategies as st

from pylon.swarm.dispatch.pace import Pace, Recent


def test_the_first_time_is_taken_as_it_is_and_each_later_one_counts_three_tenths() -> None:
    pace = Pace()
    pace.saw(10.0)
    assert pace.seconds == 10.0
    pace.saw(20.0)
    assert pace.seconds == 13.0


def test_a_job_that_is_not_answered_yet_makes_a_pace_slower_and_never_quicker() -> None:
    pace = Pace()
    pace.saw(10.0)
    pace.at_least(5.0)
    assert pace.seconds == 10.0
    pace.at_least(20.0)
    assert pace.seconds == 13.0


def test_where_nothing_was_seen_a_quantile_is_infinite() -> None:
    assert Recent().quantile(0.5) == math.inf


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.floats(0, 1), st.integers(1, 10))
def test_a_quantile_is_one_of_the_latest_times_and_such_a_share_lies_below_it(times, share, size) -> None:
    recent = Recent(size)
    for seconds in times:
        recent.add(seconds)
    latest = sorted(times[-size:])
    assert recent.quantile(share) == latest[min(len(latest) - 1, int(share * len(latest)))]
    assert (recent.quantile(0.0), recent.quantile(1.0)) == (latest[0], latest[-1])
    assert recent.count == len(latest)
