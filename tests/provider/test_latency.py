"""Where the time of answered jobs goes."""

from hypothesis import given
from hypothesis import strategies as st

from pylon.provider.work.latency import BOUNDS, LATEST, Latency


@given(st.lists(st.floats(0, 500), min_size=1, max_size=60))
def test_every_job_is_counted_once_in_each_phase_and_in_the_bucket_that_holds_it(seconds):
    latency = Latency()
    for one in seconds:
        latency.note(one, 2 * one, 0.0)
    told = latency.as_dict()
    assert [sum(phase["counts"]) for phase in told.values()] == [len(seconds)] * 3
    for end, bound in enumerate(BOUNDS, 1):
        assert sum(told["queue"]["counts"][:end]) == sum(one <= bound for one in seconds)
    assert abs(told["compute"]["sum_s"] - 2 * sum(seconds)) < 1e-6
    assert told["publish"]["median_s"] == 0.0


def test_medians_are_of_the_latest_jobs_and_there_is_none_before_the_first():
    latency = Latency()
    assert latency.as_dict()["queue"]["median_s"] is None
    latency.note(90.0, 1.0, 1.0)
    for _ in range(LATEST):
        latency.note(0.5, 1.0, 1.0)
    assert latency.as_dict()["queue"]["median_s"] == 0.5
    # A clock that was set back makes no time below nothing.
    latency.note(-1.0, 1.0, 1.0)
    assert latency.as_dict()["queue"]["counts"][0] == 1
