"""Seven kinds of liars, a tenth of the swarm each time, against the shipped deciders."""

import pytest

from tests.swarm.crowd_model import Member, Model, Told, kinds

HONEST, LIARS = 18, 2
ALWAYS = ["wrong model", "echo", "truncate", "invent", "colluding pair"]


def run(kind: str, jobs: int, *, text: bool = False, rescoring: bool = False, seed: int = 1) -> Told:
    lie = kinds(text=text)[kind]
    members = [Member(f"honest-{n}") for n in range(HONEST)] + [Member(f"liar-{n}", lie) for n in range(LIARS)]
    return Model(members, seed=seed, text=text, rescoring=rescoring).run(jobs)


def jobs_until_out(told: Told) -> list[int]:
    return [m.asked_until_out or 10**9 for m in told.members.values() if m.lie is not None]


def hold(told: Told) -> None:
    """What is promised of every kind: hardly a wrong answer, none missing, and checks that cost little."""
    assert told.failed == 0
    assert told.wrong <= told.jobs / 100
    # Only where a run is small may what must be decided overdraw the share, by ten jobs.
    assert told.asked <= 0.05 * told.jobs + (1 if told.jobs >= 1_000 else 11)


@pytest.mark.parametrize("kind", ALWAYS)
def test_whoever_always_lies_is_out_within_twenty_jobs(kind: str) -> None:
    told = run(kind, 1_000)
    hold(told)
    assert max(jobs_until_out(told)) <= 20


def test_a_sleeper_is_out_within_a_hundred_jobs() -> None:
    told = run("sleeper", 4_000)
    hold(told)
    assert max(jobs_until_out(told)) <= 100


def test_one_that_lies_now_and_then_delivers_hardly_a_wrong_answer() -> None:
    hold(run("selective", 3_000))


@pytest.mark.parametrize("rescoring", [False, True])
@pytest.mark.parametrize("kind", ["wrong model", "truncate"])
def test_free_text_is_told_by_comparison_and_by_asking_the_model_itself(kind: str, rescoring: bool) -> None:
    told = run(kind, 600, text=True, rescoring=rescoring)
    hold(told)
    assert max(jobs_until_out(told)) <= 20
    assert (told.asked == 0) is rescoring


@pytest.mark.slow
@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("kind", list(kinds(text=False)))
def test_no_kind_of_liar_gets_through_whatever_the_dice_say(kind: str, text: bool) -> None:
    for seed in (2, 3, 4):
        told = run(kind, 6_000, text=text, seed=seed)
        hold(told)
        limit = 20 if kind in ALWAYS else 100 if kind == "sleeper" else 10**9
        assert max(jobs_until_out(told)) <= limit
