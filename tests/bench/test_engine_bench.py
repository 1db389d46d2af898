"""The benchmark of the engine: what it asks, and what it makes of figures."""

import asyncio
import math
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pylon.bench import engine
from pylon.bench.engine import IN_FLIGHT, chosen_shapes, most_minutes, sweep
from pylon.bench.engine_floor import Floor
from pylon.bench.engine_load import Load, Tokens, load
from pylon.bench.engine_picture import draw_sweep
from pylon.bench.engine_versus import Side, efficiency, lower, versus
from pylon.bench.engine_work import SHAPES, Shape, prompts
from pylon.errors import UsageError
from pylon.inference.engine import EngineSpec
from pylon.inference.models.weights import PACKAGED


def count(text: str) -> int:
    """Two tokens a word, as a stand-in for a tokenizer."""
    return 2 * len(text.split())


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_prompts_have_their_lengths_share_their_head_and_never_come_twice(shape: Shape) -> None:
    made = [prompts(shape, 6, part, count) for part in ("round 0", "round 1")]
    texts = [text for part in made for text in part]
    assert len(set(texts)) == 12
    head = max(0, shape.shared // 2 - 4)
    assert len({" ".join(text.split()[:head]) for text in texts}) == 1
    assert len({" ".join(text.split()[head : head + 12]) for text in texts}) == 12
    for text in texts:
        assert shape.own[0] - 10 <= count(text) - shape.shared <= shape.own[1]
    assert made == [prompts(shape, 6, part, count) for part in ("round 0", "round 1")], "made from a seed"


async def test_no_more_are_asked_at_once_than_said_and_all_are_counted() -> None:
    running = most = 0

    async def ask(_: str) -> Tokens:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(random.random() / 100)
        running -= 1
        return Tokens(10, 2, 5)

    ran = await load(ask, ["x"] * 20, 4)
    assert most == 4
    assert (ran.requests, ran.tokens) == (20, Tokens(200, 40, 100))
    assert ran.latency_s(0.5) <= ran.latency_s(0.95) <= max(ran.latencies_s) <= ran.wall_s


def test_the_lower_figure_of_several_models_counts() -> None:
    # A shape's own report stands beside its figures, and the name of one has "ratio" in it.
    reports = [
        {"model": "a", "rounds": 3, "ratio_lines": 2.5, "efficiency": 0.8, "generation": {"ratio": 1.1}},
        {"model": "b", "rounds": 3, "ratio_lines": 2.0, "efficiency": 0.9, "generation": {"ratio": 1.2}},
    ]
    assert lower(reports) == {"ratio_lines": 2.0, "efficiency": 0.8, "models": reports}


def test_efficiency_counts_each_token_once_at_the_speed_of_its_own_round() -> None:
    # 32 requests: 10 tokens each are read and one is fed to the first of three steps.
    floors = [Floor(token_s=0.01, token_cpu_s=0.01, step_s=0.1, step_cpu_s=0.2) for _ in range(3)]
    floors[2] = replace(floors[2], token_s=0.02, step_s=0.2)
    mine = Side(wall_s=[7.0, 4.375, 7.0], cpu_s=[7.6, 3.8, 15.2])
    told = efficiency(32, 11, 3, floors, mine)
    assert told == {"floor_s": 3.5, "floor_cpu_s": 3.8, "efficiency": 0.8, "cpu_efficiency": 0.5}


def test_an_unknown_shape_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        chosen_shapes(["circles"])
    assert "lines" in caught.value.hint
    assert [shape.name for shape in chosen_shapes(["chunks"])] == ["chunks"]


def test_what_a_sweep_takes_at_most_is_known_from_single_requests() -> None:
    lines, chunks = SHAPES[:2]
    each_s = {lines: 1.0, chunks: 3.0}
    # Never fewer prompts than are in flight.
    assert most_minutes([(lines, 1), (lines, 32), (chunks, 1)], each_s, 8) == math.ceil((8 + 32 + 24) / 60)
    assert most_minutes([], each_s, 8) == 0


async def test_a_sweep_says_before_each_part_how_much_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Engine:
        service = SimpleNamespace(status=lambda: SimpleNamespace(tokens_in_per_s=1.0, tokens_out_per_s=1.0))

        async def answer(self, asked: list[str], _most: int, in_flight: int = IN_FLIGHT) -> Load:
            wall_s = 60.0 * len(asked) / in_flight
            return Load(wall_s, (1.0,) * len(asked), Tokens(1, 1))

        async def counted(self) -> None:
            return None

    @asynccontextmanager
    async def ours(_: EngineSpec) -> AsyncIterator[Engine]:
        yield Engine()

    monkeypatch.setattr(engine, "ours", ours)
    monkeypatch.setattr(engine, "token_counter", lambda _: count)
    said: list[str] = []
    await sweep(EngineSpec("mlx", "needle-1"), 8, chosen_shapes(["lines"]), said.append)
    assert said[1] == "part 1 of 6: lines, 1 in flight; at most about 80 min left"
    assert said[-1] == "part 6 of 6: lines, 32 in flight; at most about 2 min left"


def test_the_picture_has_a_line_for_each_shape() -> None:
    rows = [
        {"shape": shape, "in_flight": width, "requests_per_s": width * rate}
        for shape, rate in (("lines", 3.3), ("chunks", 0.4))
        for width in (1, 2, 4)
    ]
    svg = draw_sweep("needle-1", rows)
    assert svg.count("<polyline") == 2 and ">lines<" in svg and ">chunks<" in svg


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_small_comparison_with_the_real_peer_has_every_figure() -> None:
    spec = EngineSpec("mlx", "needle-1", PACKAGED / "needle-1", slots=IN_FLIGHT)
    report = await versus(spec, 32, 1, chosen_shapes(["lines"]), lambda _: None)
    assert report["ratio_lines"] > 0 and report["cpu_ratio_lines"] > 0
    assert report["efficiency"] > 0 and report["cpu_efficiency"] > 0
    lines = report["lines"]
    assert lines["read_tokens"] < 100, "the shared prefix is read once"
    assert lines["their_read_tokens"] > 500, "this model's state cannot be cut, so the peer reads all of it"
    assert lines["best"] in lines["theirs"]
