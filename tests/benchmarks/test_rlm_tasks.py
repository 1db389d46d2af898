"""The offline benchmarks: gold answers are right, scorers give what the paper's give, programs reach the gold."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.rlm import bank, hops, niah, oolong, pairs, programs, scorers, stand_in

SEEDS = range(3)


def all_tasks(seed: int):
    rng = random.Random(seed)
    yield from (niah.make(rng, 5_000, kind) for kind in niah.HAYS)
    yield from oolong.make(rng, 6_000)
    yield from pairs.make(rng, 8_000)
    yield hops.make(rng, 5_000)


def plain_run(task, sub):
    """The program's cells in this process, with a function in the place of a model."""
    said = []
    names = {
        "context": task.context,
        "llm_query": sub,
        "llm_query_batched": lambda prompts: [sub(prompt) for prompt in prompts],
        "FINAL": lambda answer: said.append(str(answer)),
        "print": lambda *_: None,
    }
    for turn in programs.turns(task):
        exec(re.fullmatch(r"```repl\n(.+)\n```", turn, re.DOTALL)[1], names)  # our own programs
    return said[-1]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_gold_answer_scores_one_and_nothing_scores_less(seed):
    for task in all_tasks(seed):
        assert task.score(task.gold) == 1.0, task
        if task.gold:
            assert task.score("nothing of the sort") < 1.0, task


@pytest.mark.parametrize("seed", SEEDS)
def test_a_program_with_a_sub_model_that_never_errs_reaches_the_gold_answer(seed):
    for task in all_tasks(seed):
        assert task.score(plain_run(task, stand_in.StandIn())) == 1.0, task


def test_a_sub_model_that_errs_costs_score():
    scores = [
        task.score(plain_run(task, stand_in.StandIn(error=0.3, seed=seed)))
        for seed in SEEDS
        for task in pairs.make(random.Random(seed), 8_000)
    ]
    assert 0.2 < sum(scores) / len(scores) < 0.95


@given(st.sampled_from(bank.LABELS), st.integers())
def test_the_label_of_a_question_is_read_off_its_template(label, seed):
    assert bank.label_of(bank.new_question(random.Random(seed), label)) == label


def test_no_label_stands_in_a_context():
    made = oolong.context_of(oolong.lines(random.Random(1), 20_000, 5)).partition("\n\n")[2]
    assert not any(label in made for label in bank.LABELS)


@given(st.integers(0, 500), st.integers(0, 500))
def test_a_number_loses_a_quarter_of_its_score_for_each_unit(gold, said):
    assert scorers.numeric(gold, f"The answer: {said:,}") == pytest.approx(0.75 ** abs(gold - said))


def test_pairs_count_once_in_either_order_and_f1_is_harmonic():
    gold = {(1, 2), (3, 4), (5, 6)}
    assert scorers.f1(gold, "(2, 1)\n(1, 2)\n(3, 4)\n(7, 8)") == pytest.approx(2 * (2 / 3) * (2 / 3) / (4 / 3))
    assert scorers.f1(set(), "none") == 1.0 and scorers.f1(gold, "none") == 0.0


def test_a_needle_is_right_only_when_no_other_number_is_offered():
    assert scorers.contains("7391824", "It is 7391824.") == 1.0
    assert scorers.contains("7391824", "7391824 or 1234567") == 0.0


def test_the_same_seed_makes_the_same_tasks():
    assert list(all_tasks(3)) == list(all_tasks(3))
