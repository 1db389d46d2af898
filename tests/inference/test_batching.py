"""Which waiting requests start together, and how many of them are looked at for that."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from pylon.inference.batching import batched
from pylon.inference.batching.batched import BatchedEngine
from pylon.inference.engine import EngineSpec
from pylon.inference.mlx.grouping import MOST_PADDING, alike


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=40), st.integers(1, 8))
def test_a_group_holds_the_first_and_little_padding(lengths: list[int], most: int) -> None:
    group = alike(lengths, most)
    assert 0 in group
    assert len(group) <= most
    assert len(set(group)) == len(group)
    padded = max(lengths[place] for place in group) * len(group)
    assert 1 - sum(lengths[place] for place in group) / padded <= MOST_PADDING


def test_prompts_of_like_length_go_together_past_others_between_them() -> None:
    assert alike([100, 900, 98, 20, 101, 102], 4) == [0, 2, 4, 5]


class Prefixes:
    """Counts the tokens of the prompts that are compared."""

    def __init__(self) -> None:
        self.compared = 0

    def advance(self) -> bool:
        return False

    def begin(self, customer, prompt, others, most) -> bool:
        self.compared += sum(map(len, (prompt, *others)))
        return False

    def find(self, customer, tokens) -> None:
        self.compared += len(tokens)

    def remember(self, customer, prompt) -> None:
        pass


class Engine(BatchedEngine):
    """Has memory for everything, and computes nothing."""

    def __init__(self, slots: int, *prompts: int) -> None:
        super().__init__(EngineSpec("llama", "m", slots=slots))
        self._prefixes = Prefixes()
        self._rows = SimpleNamespace(reading=False, step=list)
        self._waiting.extend(
            SimpleNamespace(tokens=[0] * tokens, known=0, alone=False, request=SimpleNamespace(customer="c"))
            for tokens in prompts
        )

    def load(self):
        raise NotImplementedError

    def _longest(self):
        return 0

    def _longest_prefix(self, first):
        return 0

    def _admits(self, running, new):
        return True

    def _together(self, lengths, free):
        return list(range(min(len(lengths), free)))

    def _begin(self, group, prefix):
        pass


def test_however_many_long_prompts_wait_a_step_compares_only_so_many_of_their_tokens(monkeypatch) -> None:
    monkeypatch.setattr(batched, "_MOST_COMPARED", 1_000)
    engine = Engine(256, *[100] * 250)
    steps = 0
    while engine._waiting:
        engine._prefixes.compared = 0
        engine.step()
        steps += 1
        # Each with the first prompt and with the stored prefixes, and the first once more.
        assert engine._prefixes.compared <= 2 * 1_000 + 100
    assert steps == 25 and len(engine._running) == 250


def test_short_prompts_start_in_one_step_and_one_that_is_longer_than_all_that_is_compared_starts_too() -> None:
    engine = Engine(256, *[100] * 250)
    engine.step()
    assert len(engine._running) == 250
    engine = Engine(4, batched._MOST_COMPARED + 1, 5)
    engine.step()
    assert len(engine._running) == 1
    engine.step()
    assert len(engine._running) == 2
