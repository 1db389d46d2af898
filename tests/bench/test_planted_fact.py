import pytest

from pylon.bench.planted_fact import make_task


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("characters", [1_000, 250_000])
def test_the_fact_stands_in_the_text_once_and_nothing_else_says_it(characters, seed):
    task = make_task(characters, seed)
    assert task.text.count(f" The special magic number for {task.key} is {task.value}.") == 1
    assert task.text.count(task.value) == task.text.count(task.key) == 1
    assert len(task.text) >= characters and task.key in task.question and task.value not in task.question
