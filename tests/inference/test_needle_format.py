"""needle-1's prompt format and task generator: pure, no model."""

import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.inference.models import needle
from pylon.inference.models.needle_tasks import WORDS, make_task, near_miss, new_key

TEXT = "The harbour was quiet. Boats came and went.\nNobody counted them in 1904, or so it is said. " * 12


def test_the_example_of_its_page_runs() -> None:
    [example] = re.findall(r"```python\n(.*?)```", Path("docs/needle.md").read_text("utf-8"), re.DOTALL)
    known: dict[str, Any] = {"text": TEXT * 2}
    exec(example, known)
    assert len(known["prompts"]) > 1 and all(known["question"] in one for one in known["prompts"])


def test_question_stands_before_the_chunk_so_that_one_prefix_serves_a_whole_map() -> None:
    question = needle.QUESTIONS[0].format(key="amber-falcon")
    prompts = [needle.prompt(question, chunk) for chunk in ("one", "two")]
    assert all(p.startswith(needle.ask(question)) for p in prompts)


@given(st.text(alphabet="ab1 \n", max_size=6000))
def test_chunks_cover_the_text_and_never_pass_their_size(text: str) -> None:
    pieces = list(needle.chunks(text))
    assert all(len(piece) <= needle.CHUNK_CHARS for piece in pieces)
    at = 0
    for piece in pieces:
        assert text.find(piece, max(0, at - needle.OVERLAP_CHARS)) <= at
        at = text.find(piece, max(0, at - needle.OVERLAP_CHARS)) + len(piece)
    assert at == len(text)


@pytest.mark.parametrize("offset", range(0, 1600, 37))
def test_statement_across_a_border_is_whole_in_some_chunk(offset: int) -> None:
    statement = "The special magic number for amber-falcon is 7391824."
    words = "word " * 1000
    text = words[:offset].rstrip() + " " + statement + " " + words
    assert any(statement in piece for piece in needle.chunks(text))


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
