"""What a model's files say of it to Pylon."""

import contextlib
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pylon.errors import ModelError
from pylon.inference.engine import EngineSpec, Finished, Generation, GenerationRequest
from pylon.inference.mlx.engine import MlxEngine
from pylon.inference.models import needle
from pylon.inference.models.description import FILE, Description, describe
from pylon.inference.models.needle_tasks import digits
from pylon.inference.models.weights import PACKAGED

TEN_DIGITS = needle.prompt(
    needle.QUESTIONS[0].format(key="amber-falcon"),
    "It rained. The special magic number for amber-falcon is 12345678901. Nothing else was said of it in that year.",
)


def said(folder: Path, tokens: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(f'{{"max_completion_tokens": {tokens}}}')
    return folder


def answer(spec: EngineSpec, request: GenerationRequest) -> Generation:
    engine = MlxEngine(spec)
    engine.load()
    engine.add(request)
    while engine.busy:
        for event in engine.step():
            if isinstance(event, Finished):
                engine.close()
                return event.generation
    raise AssertionError("no answer")


def test_most_models_say_nothing(tmp_path: Path) -> None:
    assert describe(tmp_path) == describe(tmp_path / "a.gguf") == Description()


def test_a_folder_says_how_long_its_models_answers_are(tmp_path: Path) -> None:
    assert describe(said(tmp_path, 40)).max_completion_tokens == 40


def test_a_gguf_files_own_folder_speaks_for_it_and_one_of_its_name_beside_it_before_that(tmp_path: Path) -> None:
    said(tmp_path, 40)
    assert describe(tmp_path / "A-Q4_K_M.gguf").max_completion_tokens == 40
    said(tmp_path / "A-Q4_K_M", 7)
    assert describe(tmp_path / "A-Q4_K_M.gguf").max_completion_tokens == 7
    assert describe(tmp_path / "B.gguf").max_completion_tokens == 40


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"max_completion_tokens": 1, "b": 2}', '{"longest": 1}'])
def test_a_description_that_is_none_is_named_with_what_belongs_there(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ModelError) as caught:
        describe(tmp_path)
    assert str(tmp_path / FILE) in str(caught.value) and "max_completion_tokens" in caught.value.hint


@pytest.mark.parametrize("tokens", ["0", "-1", "true", "1.5", '"12"', "null", "1000000000", "9" * 30])
def test_a_longest_answer_that_is_no_number_of_tokens_is_refused(tmp_path: Path, tokens: str) -> None:
    with pytest.raises(ModelError):
        describe(said(tmp_path, tokens))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary() | st.integers().map(lambda n: b'{"max_completion_tokens": %d}' % n))
def test_whatever_lies_there_is_a_description_or_an_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE).write_bytes(data)
    with contextlib.suppress(ModelError):
        assert 1 <= describe(tmp_path).max_completion_tokens < 10**9


def test_the_packaged_model_is_held_to_the_answers_that_it_was_trained_on() -> None:
    for place in ("needle-1", "needle-1.gguf"):
        assert describe(PACKAGED / place).max_completion_tokens == needle.ANSWER_TOKENS
    rng = random.Random(1)
    # A digit is a token; that which ends an answer is none of it, but has to come.
    assert max(len(digits(rng)) for _ in range(1_000)) < needle.ANSWER_TOKENS


def test_the_packaged_model_ends_where_it_would_write_digits_without_end(ask, tmp_path: Path) -> None:
    spec = EngineSpec("mlx", "needle-1", PACKAGED / "needle-1", slots=1)
    ended = answer(spec, ask(TEN_DIGITS, max_tokens=512))
    assert (ended.finish, ended.completion_tokens) == ("length", needle.ANSWER_TOKENS)
    # What it does without: otherwise this says nothing.
    shutil.copytree(PACKAGED / "needle-1", tmp_path / "free", ignore=shutil.ignore_patterns(FILE))
    free = EngineSpec("mlx", "needle-1", tmp_path / "free", slots=1)
    assert answer(free, ask(TEN_DIGITS, max_tokens=40)).completion_tokens == 40


def test_any_model_is_held_to_what_its_folder_says_and_to_what_is_asked_for_below_that(
    babble: EngineSpec, ask, tmp_path: Path
) -> None:
    assert babble.model_dir is not None
    shutil.copytree(babble.model_dir, tmp_path / "held")
    said(tmp_path / "held", 5)
    spec = EngineSpec("mlx", "babble", tmp_path / "held", slots=1)
    assert MlxEngine(spec).load().max_completion_tokens == 5
    for asked, written in ((3, 3), (5, 5), (50, 5), (1_000_000, 5)):
        ended = answer(spec, ask("Tell a story.", max_tokens=asked))
        assert (ended.finish, ended.completion_tokens) == ("length", written), asked
