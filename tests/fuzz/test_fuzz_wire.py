"""No input may raise anything but `WireError`, or hold more memory than its target allows.

    PYLON_FUZZ_INPUTS=50000 PYLON_FUZZ_SEED=7 pytest tests/fuzz

A failure names the seed and the number of the input, which `inputs` makes again. What inputs cost is reported at
the end of the run, not asserted: time differs between machines.
"""

import os
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from pylon.errors import WireError

from .mutation import mutate
from .targets import TARGETS, Target

INPUTS = int(os.environ.get("PYLON_FUZZ_INPUTS", "2000"))
SEED = int(os.environ.get("PYLON_FUZZ_SEED", "1"))

targets = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)


def inputs(target: Target, seed: int, count: int) -> Iterator[bytes]:
    for number in range(count):
        # Each its own generator, so that one input can be made again without those before it.
        yield mutate(random.Random(seed << 32 | number), target.seeds, target.limit)


def is_traced(target: Target, number: int, data: bytes) -> bool:
    # Tracing makes an input up to ten times as slow; what is short can hold much only where it expands.
    return target.expands or len(data) > 4_096 or number % 20 == 0


def fuzz(target: Target, seed: int, count: int) -> dict[str, object]:
    accepted, costs, peak = 0, [0.0], 0
    for number, data in enumerate(inputs(target, seed, count)):
        traced = is_traced(target, number, data)
        if traced:
            tracemalloc.start()
        start = time.perf_counter()
        try:
            target.parse(data)
            accepted += 1
        except WireError:
            pass
        except BaseException as error:
            error.add_note(f"{target.name}: seed {seed}, input {number} of {len(data)} bytes: {data[:300]!r}")
            raise
        finally:
            cost = time.perf_counter() - start
            held = tracemalloc.get_traced_memory()[1] if traced else 0
            tracemalloc.stop()
        assert held <= target.memory, (
            f"{target.name}: seed {seed}, input {number} held {held:,} bytes: {data[:300]!r}"
        )
        peak = max(peak, held)
        if target.expands or not traced:
            costs.append(cost)
    costs.sort()
    return {
        "target": target.name,
        "inputs": count,
        "accepted": accepted,
        "median_us": statistics.median(costs) * 1e6,
        "p99_us": costs[int(len(costs) * 0.99)] * 1e6,
        "slowest_ms": costs[-1] * 1e3,
        "peak_kib": peak / 1024,
    }


@targets
def test_what_fuzzing_starts_from_is_valid(target: Target) -> None:
    refused = 0
    for seed in target.seeds:
        try:
            target.parse(seed)
        except WireError:
            refused += 1
    assert refused < len(target.seeds)


@targets
def test_no_input_escapes(target: Target, record_property: Callable[[str, object], None]) -> None:
    record_property("fuzz", fuzz(target, SEED, INPUTS))


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@targets
def test_none_of_a_hundred_thousand_inputs_escapes(
    target: Target, record_property: Callable[[str, object], None]
) -> None:
    record_property("fuzz", fuzz(target, SEED + 1, 100_000))
