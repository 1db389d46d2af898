"""needle-1's prompt format and task generator: pure, no model."""

import random

import pytest

from pylon.inference.models import needle
from pylon.inference.models.needle_tasks import WORDS, make_task, near_miss, new_key

TEXT = "The harbour was quiet. Boats came and went.\nNobody counted them in 1904, or so it is said. " * 12


def test_question_stands_before_the_chunk_so_that_one_prefix_serves_a_whole_map() -> None:
    question = needle.QUESTIONS[0].format(key="amber-falcon")
    prompts = [needle.prompt(question, chunk) for chunk in ("one", "two")]
    assert all(p.startswith(needle.ask(question)) for p in prompts)


@pytest.mark.parametrize("seed", range(20))
def test_present_task_states_its_answer_once_and_absent_task_does_not(seed: int) -> None:
    present = make_task(random.Random(seed), TEXT, WORDS, present=True)
    absent = make_task(random.Random(seed), TEXT, WORDS, present=False)
    assert present.chunk.count(present.answer) == 1
    assert present.chunk.find(present.statements[-1].sentence) == round(present.depth * len(present.chunk))
    assert absent.answer == needle.ABSENT
    assert not any(statement.asked for statement in absent.statements)


def test_near_miss_differs_from_its_key_but_shares_a_part() -> None:
    rng = random.Random(5)
    for _ in range(50):
        key = new_key(rng, WORDS)
        other = near_miss(rng, key, WORDS)
        assert other != key
        assert set(other) & set(key)


def test_same_seed_makes_the_same_task() -> None:
    one, two = (make_task(random.Random(3), TEXT, WORDS, present=True) for _ in range(2))
    assert one == two
