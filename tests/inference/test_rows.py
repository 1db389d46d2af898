"""What is read before the next token of the running answers, of rows of MLX."""

from pylon.inference.mlx import rows
from pylon.inference.mlx.batch import Batch
from pylon.inference.mlx.engine import MlxEngine


def loaded(babble, monkeypatch) -> tuple[MlxEngine, list[int]]:
    """And of each decoding how many tokens were read since the one before."""
    engine = MlxEngine(babble)
    engine.load()
    read, stalls = [0], []
    take_in, step = rows.Rows._take_in, Batch.step

    def reading(self, parts, layers) -> None:
        read[0] += sum(map(len, parts))
        take_in(self, parts, layers)

    def decoding(self):
        if self.rows:
            stalls.append(read[0])
            read[0] = 0
        return step(self)

    monkeypatch.setattr(rows.Rows, "_take_in", reading)
    monkeypatch.setattr(Batch, "step", decoding)
    return engine, stalls


def test_small_groups_are_read_one_after_the_other_and_then_decoded_together(babble, ask, monkeypatch) -> None:
    engine, stalls = loaded(babble, monkeypatch)
    for number, words in enumerate((10, 10, 40, 40, 100, 100)):  # three lengths, so three groups
        engine.add(ask(f"{number} " + "word " * words, key=str(number), customer=str(words), max_tokens=2))
    while not stalls:
        engine.step()
    assert len(engine._running) == 6
    while engine.busy:
        engine.step()
    assert len(stalls) == 2


def test_running_answers_do_not_stall_for_more_than_so_many_tokens_of_small_groups(babble, ask, monkeypatch) -> None:
    # Fewer than in earnest, which would take prompts as much longer.
    monkeypatch.setattr(rows, "_STALL_TOKENS", 512)
    engine, stalls = loaded(babble, monkeypatch)
    engine.add(ask("word", key="running", max_tokens=20))
    engine.step()
    for number in range(7):
        words = 50 + 10 * number
        for twin in "ab":
            engine.add(ask(f"{twin} " + "word " * words, key=f"{number}{twin}", customer=str(words), max_tokens=4))
    while engine.busy:
        engine.step()
    assert sum(stalls) > 1.5 * rows._STALL_TOKENS
    assert max(stalls) <= rows._STALL_TOKENS
    assert max(stalls) > rows._STALL_TOKENS / 2


def test_running_answers_go_on_between_the_parts_of_a_long_prompt(babble, ask, monkeypatch) -> None:
    monkeypatch.setattr(rows, "ROW_TOKENS", 128)
    engine, stalls = loaded(babble, monkeypatch)
    engine.add(ask("word", key="running", max_tokens=20))
    engine.step()
    engine.add(ask("word " * 360, key="long", customer="another", max_tokens=2))
    while engine.busy:
        engine.step()
    assert len([stall for stall in stalls if stall > rows.ROW_TOKENS / 2]) == 3
    assert max(stalls) <= rows.ROW_TOKENS
