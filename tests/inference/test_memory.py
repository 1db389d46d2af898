from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import ModelError, NoRoomError, PromptError
from pylon.inference.engine import EngineSpec, Failed, Finished
from pylon.inference.memory import MemoryPlan, memory_limit
from pylon.inference.mlx.engine import MlxEngine
from pylon.inference.mlx.headroom import Headroom
from pylon.inference.mlx.model import check_weights

GB = 10**9
rows = st.lists(st.integers(1, 10_000), max_size=40)


@given(rows, st.integers(1, 10_000), st.integers(0, 10**9))
def test_what_is_admitted_stays_under_the_soft_limit(running: list[int], new: int, prefixes: int) -> None:
    plan = MemoryPlan(limit=10 * GB, weights=4 * GB, per_token=100_000, per_row=1_000)
    if plan.admits(running, new, prefixes):
        assert plan.weights + prefixes + len([*running, new]) * (max([*running, new]) * 100_000 + 1_000) <= plan.soft


@given(st.integers(0, 40 * GB), st.integers(1, 10**6))
def test_the_longest_request_that_is_named_fits_alone_and_no_longer_one(weights: int, per_token: int) -> None:
    plan = MemoryPlan(limit=20 * GB, weights=weights, per_token=per_token, per_row=4_096)
    longest = plan.longest()
    assert longest == 0 or plan.admits([], longest)
    assert not plan.admits([], longest + 1)


def test_a_row_costs_as_much_as_the_longest_beside_it() -> None:
    plan = MemoryPlan(limit=GB, weights=0, per_token=1_000, per_row=0)
    assert plan.batch([10, 10, 1_000]) == 3_000_000


@pytest.mark.parametrize(
    ("free", "accelerator", "wished", "limit"),
    [(10 * GB, None, 0, 8 * GB), (10 * GB, 6 * GB, 0, 6 * GB), (10 * GB, 6 * GB, 2 * GB, 2 * GB)],
)
def test_the_limit_is_the_least_of_what_machine_gpu_and_owner_allow(free, accelerator, wished, limit) -> None:
    assert memory_limit(free, accelerator, wished) == limit


def test_weights_that_leave_no_room_are_refused_before_they_are_loaded() -> None:
    with pytest.raises(ModelError, match=r"24\.0 GB"):
        check_weights(24 * GB, 16 * GB, 20 * GB, "large")


def test_weights_for_which_others_might_make_room_are_told_from_those_that_never_fit() -> None:
    with pytest.raises(NoRoomError):
        check_weights(24 * GB, 16 * GB, 25 * GB, "large")
    with pytest.raises(ModelError) as caught:
        check_weights(24 * GB, 16 * GB, 24 * GB, "large")
    assert not isinstance(caught.value, NoRoomError)


@pytest.fixture
def tight(babble: EngineSpec):
    """An engine whose memory holds `tokens` tokens, and whose use of it the test says."""
    used = [0]

    def make(tokens: int) -> tuple[MlxEngine, list[int]]:
        engine = MlxEngine(babble)
        engine.load()
        memory = engine._model.memory
        limit = round((memory.weights + memory.per_row + tokens * memory.per_token) / 0.9) + 10
        plan = MemoryPlan(limit, memory.weights, memory.per_token, memory.per_row)
        engine._model = replace(engine._model, memory=plan)
        engine._headroom = Headroom(plan, lambda: used[0], engine._clock)
        return engine, used

    return make


def test_the_state_of_a_token_is_that_of_the_attention_layers(tight, babble) -> None:
    engine, _ = tight(100)
    # Three attention layers, keys and values of 128 floats each.
    assert engine._model.memory.per_token == 3 * 2 * 128 * 4


def test_a_prompt_that_memory_cannot_hold_is_refused_with_what_fits(tight, ask) -> None:
    engine, _ = tight(100)
    with pytest.raises(PromptError, match="memory here holds 100") as caught:
        engine.add(ask("word " * 200, max_tokens=20))
    assert "1 to 80 tokens" in caught.value.hint


def test_over_the_soft_limit_nothing_starts_until_something_ends(tight, ask) -> None:
    engine, _ = tight(100)
    for number in range(5):
        engine.add(ask(f"word {number}", key=str(number), customer=str(number), max_tokens=20))
    finished = 0
    while engine.busy:
        finished += sum(isinstance(event, Finished) for event in engine.step())
        assert len(engine._running) <= 2
    assert finished == 5


def test_over_the_hard_limit_the_newest_is_put_back_and_answered_later(tight, ask) -> None:
    engine, used = tight(2_000)
    for number in range(2):
        engine.add(ask(f"word {number}", key=str(number), customer=str(number), max_tokens=8))
        engine.step()
        engine.step()
    used[0] = engine._model.memory.limit + 1
    engine._headroom._measured_at = float("-inf")
    engine.step()
    assert [sequence.id for sequence in engine._running.values()] == ["0"]
    used[0], engine._headroom._measured_at = 0, float("-inf")
    done = []
    while engine.busy:
        done += [event.id for event in engine.step() if isinstance(event, Finished)]
    assert sorted(done) == ["0", "1"]


def test_what_is_only_kept_for_further_use_goes_before_anything_that_is_needed(tight, ask, monkeypatch) -> None:
    engine, used = tight(2_000)
    head = "word " * 50
    for number in range(3):
        engine.add(ask(head + f"{number}", key=str(number), max_tokens=20))
    for _ in range(3):
        engine.step()
    assert (len(engine._prefixes), len(engine._running)) == (1, 3)
    used[0] = engine._model.memory.limit + 1
    engine._headroom._measured_at = float("-inf")
    monkeypatch.setattr(engine, "_give_back", lambda: used.__setitem__(0, 0))
    engine.step()
    assert (len(engine._prefixes), len(engine._running)) == (1, 3)


def test_a_request_that_is_alone_and_still_too_much_fails(tight, ask) -> None:
    engine, used = tight(2_000)
    engine.add(ask("word", max_tokens=8))
    engine.step()
    used[0] = engine._model.memory.limit + 1
    engine._headroom._measured_at = float("-inf")
    assert [type(event) for event in engine.step()] == [Failed]
    assert not engine.busy
