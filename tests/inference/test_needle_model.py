"""The shipped weights, in stock mlx_lm and in stock llama.cpp."""

import random
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from pylon.bench import needle as bench
from pylon.bench.needle_timing import time_chunks
from pylon.cli.running import NEEDLE_ASK
from pylon.inference.models import needle
from pylon.inference.models.needle_tasks import Task

MIB = 1024 * 1024
FOLDER = Path(needle.__file__).parent


@pytest.fixture(scope="module")
def mlx() -> Iterator[bench.Answer]:
    with bench.answers("mlx") as answer:
        # Several tests ask the same.
        yield cache(answer)


@pytest.fixture(scope="module")
def llama() -> Iterator[bench.Answer]:
    pytest.importorskip("xllamacpp")
    with bench.answers("llama") as answer:
        yield cache(answer)


def some(n: int, *, present: bool, tokens: int = 200) -> list[Task]:
    count = bench.count_tokens()
    return [
        bench.sized_task(f"test {i}", count, tokens, present=present, phrasing=i % len(needle.QUESTIONS))
        for i in range(n)
    ]


def ask(answer: bench.Answer, task: Task) -> str:
    return answer(needle.prompt(task.question, task.chunk))


def test_both_formats_are_small_enough_to_ship() -> None:
    assert sum(f.stat().st_size for f in (FOLDER / needle.MODEL_ID).iterdir()) < 12 * MIB
    assert (FOLDER / f"{needle.MODEL_ID}.gguf").stat().st_size < 12 * MIB


def test_its_id_can_not_be_mistaken_for_a_hub_repository() -> None:
    assert "/" not in needle.MODEL_ID


def test_it_answers_with_a_number_of_the_chunk_or_says_none(mlx: bench.Answer) -> None:
    for task in [*some(12, present=True, tokens=64), *some(6, present=False, tokens=64)]:
        answer = ask(mlx, task)
        assert answer == needle.ABSENT or answer in task.chunk


def test_it_answers_what_new_homes_are_told_to_ask(mlx: bench.Answer) -> None:
    *command, prompt = shlex.split(NEEDLE_ASK)
    assert (command, mlx(prompt)) == (["pylon", "ask"], "4711")


def test_a_stated_value_in_a_short_chunk_is_found(mlx: bench.Answer) -> None:
    tasks = some(12, present=True, tokens=64)
    assert sum(ask(mlx, task) == task.answer for task in tasks) >= 10


def test_the_answer_follows_when_every_digit_is_swapped(mlx: bench.Answer) -> None:
    digits = list("123456789")
    random.Random(4).shuffle(digits)
    swap = str.maketrans("123456789", "".join(digits))  # a number does not begin with 0
    followed = 0
    for task in some(12, present=True, tokens=64):
        chunk = task.chunk.translate(swap)
        followed += mlx(needle.prompt(task.question, chunk)) == task.answer.translate(swap)
    assert followed >= 10


def test_llama_cpp_and_mlx_give_the_same_answers(mlx: bench.Answer, llama: bench.Answer) -> None:
    tasks = some(12, present=True, tokens=64) + some(6, present=False, tokens=64) + some(2, present=True)
    assert [ask(llama, task) for task in tasks] == [ask(mlx, task) for task in tasks]


def test_chunk_of_dense_code_still_fits_the_window() -> None:
    count = bench.count_tokens()
    code = "".join(f"x[{i}] = {{'k_{i}': ({i}, -{i})}};\n" for i in range(200))[: needle.CHUNK_CHARS]
    assert count(needle.prompt(needle.QUESTIONS[0], code)) < 1500


def test_verify_reports_what_the_page_promises(monkeypatch) -> None:
    monkeypatch.setattr(bench, "LENGTHS", (32, 64))  # a report of long texts says no more
    report = bench.verify("mlx", seed=3, present=2, absent=1)
    assert {"needle_present", "needle_absent", "other_keys", "worst_decile", "by_length"} <= set(report)
    assert set(report["by_length"]) == {str(n) for n in bench.LENGTHS}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_shipped_weights_reach_what_their_page_says() -> None:
    report = bench.verify("llama", seed=11, present=960, absent=2000)
    assert min(report["by_length"].values()) >= 0.97
    assert report["worst_decile"] >= 0.90
    assert report["needle_absent"] >= 0.999
    assert report["other_keys"] >= 0.97


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_llama_cpp_and_mlx_agree_on_five_hundred_prompts(mlx: bench.Answer, llama: bench.Answer) -> None:
    tasks = some(350, present=True, tokens=400) + some(150, present=False, tokens=400)
    assert sum(ask(llama, task) == ask(mlx, task) for task in tasks) >= 495


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_bench_times_a_chunk_under_every_engine_that_is_installed() -> None:
    took = time_chunks(repeats=1)
    assert set(took) == {"mlx", "mlx_openblas", "llama"}
    assert all(ms is None or ms > 0 for ms in took.values())
