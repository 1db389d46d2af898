"""What may still be asked again, and what comparisons may cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.swarm.allowance import MUST, Allowance
from pylon.swarm.unchecked import Unchecked


def test_a_passed_check_clears_what_its_provider_answered_before() -> None:
    answers = Unchecked()
    for slot in (1, 2):
        answers.add(slot, "a")
    assert answers.count("a") == 2
    answers.passed("a", by=None)
    answers.add(3, "a")
    assert answers.caught("a") == ((3,), frozenset())


def test_what_a_liar_cleared_is_unchecked_again() -> None:
    answers = Unchecked()
    answers.add(1, "a")
    answers.add(2, "liar")
    answers.passed("a", by="liar")
    answers.passed("liar", by="a")
    answers.add(3, "liar")
    assert answers.caught("liar") == ((3,), frozenset({"a"}))
    assert answers.caught("a") == ((1,), frozenset({"liar"}))
    assert answers.caught("liar") == ((2,), frozenset())


@given(st.lists(st.tuples(st.sampled_from("ap-c"), st.integers(0, 3), st.integers(0, 3)), max_size=40))
def test_closed_slots_leave_nothing_behind(steps: list[tuple[str, int, int]]) -> None:
    answers, slot = Unchecked(), 0
    for what, one, other in steps:
        match what:
            case "a":
                answers.add(slot := slot + 1, f"p{one}")
            case "p":
                answers.passed(f"p{one}", by=f"p{other}")
            case "c":
                answers.caught(f"p{one}")
            case _:
                answers.closed([slot])
    answers.closed(range(slot + 1))
    assert answers == _Empty()


class _Empty:
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unchecked) and not any(vars(other).values())

    __hash__ = None  # type: ignore[assignment]


def spent(jobs: int, *, must: bool) -> int:
    """How many comparisons a run pays for in all."""
    allowance, count = Allowance(0.05), 0
    allowance.added(jobs)
    for _ in range(jobs):
        allowance.answered()
        while allowance.affords(must=must, first=False):
            allowance.spend()
            count += 1
    return count


@pytest.mark.parametrize("jobs", [1_000, 1_600, 10_000])
def test_a_large_run_never_passes_its_share_whatever_must_be_decided(jobs: int) -> None:
    assert spent(jobs, must=True) <= 0.05 * jobs + 1
    assert spent(jobs, must=False) <= 0.05 * jobs + 1 - MUST


@pytest.mark.parametrize("jobs", [1, 100, 500])
def test_a_small_run_may_overdraw_its_share_for_what_must_be_decided(jobs: int) -> None:
    assert 0.05 * jobs < spent(jobs, must=True) <= 0.05 * jobs + 1 + MUST
    assert spent(jobs, must=False) <= 0.05 * jobs + 1
