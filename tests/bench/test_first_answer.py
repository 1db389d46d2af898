"""`pylon bench first-answer`, small: real processes, every figure there."""

import pytest

from pylon.bench.first_answer import Newcomers, first_answer
from pylon.errors import UsageError


@pytest.mark.slow
async def test_a_newcomer_is_answered_before_it_has_seen_everybody():
    report = await first_answer(Newcomers(6, 2), lambda _: None)
    assert report["listed"] == report["providers"] == 6 and report["times"] == 2
    assert 0 < report["first_answer_s"] <= report["slowest_s"]
    assert report["first_answer_s"] <= report["all_listed_s"]


def test_a_plan_that_is_none_is_refused():
    with pytest.raises(UsageError):
        Newcomers(1, 1)
