"""The floor of an engine: the time of the work that it cannot avoid, which is to read each distinct token once and to
decode in the best batch.

Runs as a separate process, `python -m pylon.bench.engine_floor MODEL_DIR SHARED OWN ROWS`, with the same BLAS as the
inference child.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pylon.inference.blas import prefer_openblas, threads_for
from pylon.inference.child.environment import child_environment
from pylon.inference.models.weights import weight_files

# Tries of each measurement. The first, which meets cold memory, does not count.
REPEATS = 4
DECODE_STEPS = 8
# Numbers of rows that are read together: the fastest counts.
TOGETHER = (1, 4, 8, 16, 32)
MOST_TOKENS = 4_096


@dataclass(frozen=True, slots=True)
class Floor:
    """Wall and processor seconds: to read one token behind the shared prefix, and to decode one token of each row."""

    token_s: float
    token_cpu_s: float
    step_s: float
    step_cpu_s: float


def measure(directory: Path, shared: int, own: int, rows: int) -> Floor:
    """Times reading `own` tokens behind a shared prefix, in the fastest shape, and decoding a token for each of
    `rows` rows.

    The arithmetic is the engine's own, so that everything else that the engine does shows as the difference.
    """
    import mlx.core as mx
    from mlx_lm import load
    from mlx_lm.models.cache import make_prompt_cache

    from pylon.inference.mlx import cpu as mlx_cpu
    from pylon.inference.mlx import prefix_rows

    on_processor = mx.default_device() == mx.Device(mx.cpu)
    if on_processor:
        mlx_cpu.install()
    network = load(str(directory))[0]
    apart = on_processor and prefix_rows.takes_apart(network)

    def read(width: int, length: int, cache: list[Any]) -> None:
        prefix_rows.read(network, mx.zeros((width, length), mx.int32) + mx.arange(length)[None] % 1000, cache)

    def decode(cache: list[Any], width: int) -> None:
        token = mx.zeros((width, 1), mx.int32)
        for _ in range(DECODE_STEPS):
            token = mx.argmax(network(token, cache=cache)[:, -1:], axis=-1)
            mx.eval(token)

    prefix = make_prompt_cache(network)
    if shared:
        read(1, shared, prefix)

    def behind(width: int) -> list[Any]:
        rows = prefix_rows.behind(prefix, width, own + REPEATS * DECODE_STEPS, apart=apart)
        mx.eval([layer.state for layer in rows if not layer.empty()])
        return rows

    def reading(width: int) -> tuple[float, float]:
        cache = behind(width)
        return _took(lambda: read(width, own, cache))

    widths = [width for width in TOGETHER if width == 1 or width * own <= MOST_TOKENS]
    # In turn, so that a quiet moment of the machine helps every shape.
    tries = [[reading(width) for width in widths] for _ in range(REPEATS)]
    shapes = [(width * own, _middle(those)) for width, those in zip(widths, zip(*tries, strict=True), strict=True)]
    grown = behind(rows)
    read(rows, own, grown)
    decoding = _middle([_took(lambda: decode(grown, rows)) for _ in range(REPEATS)])
    return Floor(
        token_s=min(wall_s / tokens for tokens, (wall_s, _) in shapes),
        token_cpu_s=min(cpu_s / tokens for tokens, (_, cpu_s) in shapes),
        step_s=decoding[0] / DECODE_STEPS,
        step_cpu_s=decoding[1] / DECODE_STEPS,
    )


def _took(work: Callable[[], None]) -> tuple[float, float]:
    """Wall and processor seconds of `work`."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def _middle(tries: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Median wall and processor seconds, as of a round, so that one fast try does not decide."""
    return median(wall for wall, _ in tries[1:]), median(cpu for _, cpu in tries[1:])


def main() -> None:
    directory = Path(sys.argv[1])
    os.environ |= child_environment({}, platform.system())
    prefer_openblas(threads_for(sum(file.stat().st_size for file in weight_files(directory))))
    shared, own, rows = map(int, sys.argv[2:])
    sys.stdout.write(json.dumps(asdict(measure(directory, shared, own, rows))) + "\n")


if __name__ == "__main__":
    main()
