"""What comparisons may cost where several runs are open, and what was granted before answers came."""

from hypothesis import given
from hypothesis import strategies as st

from pylon.swarm.checks.allowance import Allowance, Purpose

SHARE = 0.05
STEPS = st.lists(st.sampled_from(["one", "other", *Purpose]), max_size=60)


def affords(allowance: Allowance) -> list[bool]:
    return [allowance.affords(purpose) for purpose in Purpose]


@given(st.integers(1, 1_500), st.integers(1, 1_500), STEPS)
def test_runs_that_are_open_together_may_cost_what_one_of_all_their_jobs_may(one: int, other: int, steps) -> None:
    # A share that is exact in binary: which sums were rounded must not decide where the two stand at a limit.
    several, whole = Allowance(1 / 16), Allowance(1 / 16)
    several.added(1, one)
    several.added(2, other)
    whole.added(1, one + other)
    left = {"one": one, "other": other}
    for step in steps:
        if isinstance(step, Purpose):
            several.spend(step)
            whole.spend(step)
        elif left[step]:
            left[step] -= 1
            several.answered(1 if step == "one" else 2)
            whole.answered(1)
        assert abs(several.left - whole.left) < 1e-9
        assert affords(several) == affords(whole)
    # To the last one, and so to what is kept for what must be decided.
    for purpose in (Purpose.SUSPECT, Purpose.FIRST, Purpose.MUST):
        while whole.affords(purpose):
            assert affords(several) == affords(whole)
            several.spend(purpose)
            whole.spend(purpose)
        assert affords(several) == affords(whole)


@given(st.integers(1, 1_500), st.integers(0, 1_500), st.data())
def test_a_run_that_is_taken_up_beside_another_takes_nothing_of_that_one_s(jobs: int, beside: int, data) -> None:
    answered = data.draw(st.integers(0, jobs))
    spent = data.draw(st.integers(0, 1 + answered // 20))
    alone, both = Allowance(SHARE), Allowance(SHARE)
    for allowance in (alone, both):
        allowance.added(1, jobs)
        allowance.taken_up(1, answered, spent)
    both.added(2, beside)
    both.ended(2)
    for allowance in (alone, both):
        # What is affordable to the last digit hangs on rounding alone.
        allowance.left += 1e-6
    assert abs(both.left - alone.left) < 1e-9 and affords(both) == affords(alone)
    # What it answered already brings nothing once more, and an end takes back what the rest would have brought.
    for _ in range(jobs - answered):
        both.answered(1)
    both.ended(1)
    assert abs(both.left - min(1.0, 1.0 + SHARE * jobs - spent)) < 1e-5


def test_what_was_granted_before_answers_came_stays_granted() -> None:
    allowance = Allowance(SHARE)
    allowance.added(1, 100)
    assert not allowance.affords(Purpose.SAMPLE)
    allowance.ahead(100, 0, {1})
    granted = 0
    for _ in range(3):
        # Those that wait are looked at again and again, and get no more by it.
        allowance.ahead(1, 99, {1})
        assert allowance.affords(Purpose.SAMPLE)
        allowance.spend(Purpose.SAMPLE)
        granted += 1
    while allowance.affords(Purpose.SAMPLE):
        allowance.spend(Purpose.SAMPLE)
        granted += 1
    assert granted == 1 + SHARE * 100
