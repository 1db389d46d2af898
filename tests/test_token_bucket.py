"""So much at once, and then at a steady rate."""

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from pylon.token_bucket import TokenBucket


def test_a_burst_is_allowed_at_once_and_then_as_many_as_the_rate_brings():
    bucket = TokenBucket(3, 0.5)
    assert [bucket.take(10.0) for _ in range(5)] == [True, True, True, False, False]
    assert [bucket.take(11.0), bucket.take(12.0), bucket.take(12.0)] == [False, True, False]
    # No more gathers than a burst, however long nothing came.
    assert [bucket.take(1e6) for _ in range(4)] == [True, True, True, False]


@given(st.lists(st.floats(0.0, 10.0), max_size=200), st.integers(1, 20), st.floats(0.01, 5.0))
def test_however_they_come_no_more_are_allowed_than_a_burst_and_the_rate(gaps, burst, per_s):
    bucket = TokenBucket(burst, per_s)
    allowed = sum(bucket.take(now) for now in accumulate(gaps, initial=0.0))
    assert allowed <= burst + sum(gaps) * per_s + 1e-6
