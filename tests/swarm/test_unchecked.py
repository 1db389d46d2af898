"""What may still be asked again, and what comparisons may cost."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.jobs.result import Finish
from pylon.money.accounts.usage import Usage
from pylon.swarm.checks.allowance import MUST, Allowance, Purpose
from pylon.swarm.checks.unchecked import LATEST, REMEMBERED, Delivered, Unchecked
from pylon.swarm.job import Answer, JobSpec

ANSWER = Answer("so it is", "", "m", "ab" * 32, Usage(4, 3), Finish.STOP, 0, 90, 100, 1, "request", "result")
RUN = 1


def delivered(slot: int, provider: str) -> Delivered:
    return Delivered(RUN, slot, JobSpec("how is it?"), replace(ANSWER, provider=provider))


def test_a_passed_check_says_nothing_of_the_other_answers_of_its_provider() -> None:
    answers = Unchecked()
    for slot in (1, 2):
        answers.add(delivered(slot, "a"))
        answers.came("a")
    assert answers.count("a") == 2
    answers.passed("a")
    answers.confirmed(3, "a", by="b")
    assert answers.count("a") == 0
    assert answers.caught("a") == ((1, 2), frozenset())


def test_what_a_liar_confirmed_is_unchecked_again() -> None:
    answers = Unchecked()
    answers.confirmed(1, "a", by="liar")
    answers.confirmed(2, "liar", by="a")
    answers.add(delivered(3, "liar"))
    assert answers.caught("liar") == ((3,), frozenset({"a"}))
    assert answers.caught("a") == ((1,), frozenset({"liar"}))
    assert answers.caught("liar") == ((2,), frozenset())


def test_the_latest_answers_can_be_looked_at_once_more_and_each_once() -> None:
    answers = Unchecked()
    for slot in range(LATEST + 5):
        answers.add(delivered(slot, "a"))
    answers.closed([LATEST + 4])
    looked_at = [found.slot for found in iter(lambda: answers.take_latest("a"), None)]
    assert looked_at == [*range(LATEST + 3, 4, -1)]
    assert answers.caught("a") == ((*range(5),), frozenset())


@given(st.lists(st.tuples(st.sampled_from("afpct"), st.integers(0, 3), st.integers(0, 3)), max_size=40))
def test_closed_slots_leave_nothing_behind(steps: list[tuple[str, int, int]]) -> None:
    answers, slot = Unchecked(), 0
    for what, one, other in steps:
        match what:
            case "a":
                answers.add(delivered(slot := slot + 1, f"p{one}"))
            case "f":
                answers.confirmed(slot := slot + 1, f"p{one}", by=f"p{other}")
            case "p":
                answers.came(f"p{one}")
                answers.passed(f"p{one}")
            case "c":
                answers.caught(f"p{one}")
            case _:
                answers.take_latest(f"p{one}")
    answers.closed(range(slot + 1))
    assert not any(vars(answers).values())


def spent(jobs: int, purpose: Purpose) -> int:
    """How many comparisons a run pays for in all."""
    allowance, count = Allowance(0.05), 0
    allowance.added(RUN, jobs)
    for _ in range(jobs):
        allowance.answered(RUN)
        while allowance.affords(purpose):
            allowance.spend(purpose)
            count += 1
    return count


@pytest.mark.parametrize("jobs", [1_000, 1_600, 10_000])
@pytest.mark.parametrize("purpose", list(Purpose))
def test_a_large_run_never_passes_its_share_whatever_must_be_decided(jobs: int, purpose: Purpose) -> None:
    assert 0.05 * jobs - MUST < spent(jobs, purpose) <= 0.05 * jobs + 1


@pytest.mark.parametrize("jobs", [1, 100, 500])
def test_a_small_run_may_overdraw_its_share_for_what_must_be_decided(jobs: int) -> None:
    assert 0.05 * jobs < spent(jobs, Purpose.MUST) <= 0.05 * jobs + 1 + MUST
    assert spent(jobs, Purpose.SAMPLE) <= 0.05 * jobs + 1


def test_samples_are_spread_over_all_of_a_run() -> None:
    allowance, at = Allowance(0.05), []
    allowance.added(RUN, 4_000)
    for n in range(4_000):
        allowance.answered(RUN)
        if allowance.affords(Purpose.SAMPLE):
            allowance.spend(Purpose.SAMPLE)
            at.append(n)
    assert len(at) >= 190
    assert max(later - sooner for sooner, later in zip([0, *at], [*at, 4_000], strict=True)) <= 22


def test_accusations_do_not_use_up_what_later_answers_bring() -> None:
    allowance = Allowance(0.05)
    allowance.added(RUN, 2_000)
    while allowance.affords(Purpose.SUSPECT):
        allowance.spend(Purpose.SUSPECT)
    assert allowance.left >= 50
    assert allowance.affords(Purpose.MUST)


def test_what_a_run_leaves_is_not_there_for_the_next_one_and_neither_is_what_a_dropped_one_would_have_brought() -> (
    None
):
    allowance = Allowance(0.05)
    allowance.added(RUN, 10_000)
    allowance.added(RUN + 1, 100)
    allowance.ended(RUN)
    assert allowance.left <= 1.0 + 0.05 * 100
    allowance.ended(RUN + 1)
    assert allowance.left == 1.0


def test_single_questions_save_up_for_a_check() -> None:
    allowance, checked = Allowance(0.05), 0
    allowance.spend(Purpose.FIRST)
    for run in range(100):
        allowance.added(run, 1)
        allowance.answered(run)
        if allowance.affords(Purpose.SAMPLE):
            allowance.spend(Purpose.SAMPLE)
            checked += 1
        allowance.ended(run)
    assert checked in (4, 5)


@pytest.mark.parametrize("jobs", [1_000, 4_000])
@pytest.mark.parametrize("killed_at", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("purpose", list(Purpose))
def test_a_run_that_was_taken_up_stays_within_its_share_as_a_whole(
    purpose: Purpose, killed_at: float, jobs: int
) -> None:
    done, count = int(killed_at * jobs), 0
    for answered, until in ((0, done), (done, jobs)):
        allowance = Allowance(0.05)
        allowance.added(RUN, jobs)
        allowance.taken_up(RUN, answered, count)
        for _ in range(answered, until):
            allowance.answered(RUN)
            while allowance.affords(purpose):
                allowance.spend(purpose)
                count += 1
    assert 0.05 * jobs - MUST - 1 < count <= 0.05 * jobs + 2


def test_of_strangers_without_end_those_are_remembered_whose_answers_came_most_often_unchecked() -> None:
    answers = Unchecked()
    for n in range(5 * REMEMBERED):
        answers.came(f"{n}")
        answers.came("often")
    assert answers.count("often") == 5 * REMEMBERED
    assert len(answers._since) <= 2 * REMEMBERED
