"""Seven kinds of liars, a tenth of the swarm each time, against the shipped deciders."""

import pytest

from tests.swarm.crowd_model import Member, Model, Told, kinds

HONEST, LIARS = 18, 2
ALWAYS = ["wrong model", "echo", "truncate", "invent", "colluding pair"]
# Each of twenty gives a hundred answers then, or 225: docs/swarm.md says what that is enough for.
JOBS = {"sleeper": 2_000, "selective": 4_500}
SEEDS = 10
NEVER = 10**9


def run(kind: str, jobs: int, *, text: bool = False, rescoring: bool = False, seed: int = 1) -> Told:
    lie = kinds(text=text)[kind]
    members = [Member(f"honest-{n}") for n in range(HONEST)] + [Member(f"liar-{n}", lie) for n in range(LIARS)]
    return Model(members, seed=seed, text=text, rescoring=rescoring).run(jobs)


def jobs_until_out(told: Told) -> list[int]:
    return [m.asked_until_out or NEVER for m in told.members.values() if m.lie is not None]


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
    told = run("sleeper", JOBS["sleeper"])
    hold(told)
    assert max(jobs_until_out(told)) <= 100


def test_one_that_lies_now_and_then_delivers_hardly_a_wrong_answer() -> None:
    hold(run("selective", JOBS["selective"]))


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
    told = [run(kind, JOBS.get(kind, 1_000), text=text, seed=seed) for seed in range(2, 2 + SEEDS)]
    wrong = sorted(one.wrong for one in told)
    out = sorted(jobs for one in told for jobs in jobs_until_out(one))
    figures = (
        f"| {kind} | {'text' if text else 'JSON'} | {told[0].jobs:,} | {wrong[len(wrong) // 2]}, {wrong[-1]} |"
        f" {out[len(out) // 2]}, {out[-1] if out[-1] < NEVER else 'never'} |"
        f" {sum(one.asked for one in told) / sum(one.jobs for one in told):.1%} |"
        f" {sum(one.requests for one in told) / sum(one.jobs for one in told):.3f} |"
    )
    print(figures)  # noqa: T201 - a row of docs/benchmarks.md, for who runs it with -s
    for one in told:
        hold(one)
    limit = 20 if kind in ALWAYS else 100 if kind == "sleeper" else NEVER
    assert max(out) <= limit
