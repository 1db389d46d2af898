"""What an engine cannot avoid, measured alone: reading each distinct token once, and decoding in the best batch.

Runs as a process of its own, `python -m pylon.bench.engine_floor MODEL_DIR SHARED OWN ROWS`, under the same BLAS as
the inference child.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pylon.inference.blas import prefer_openblas, threads_for
from pylon.inference.environment import child_environment
from pylon.inference.weights import weight_files

REPEATS = 3
DECODE_STEPS = 12
# Rows that are read together: the best of these counts.
TOGETHER = (1, 2, 4, 8, 16, 32)


def measure(directory: Path, shared: int, own: int, rows: int) -> dict[str, float]:
    """Seconds for the shared head, for one token behind it in the best shape, and for one token each of `rows`."""
    import mlx.core as mx
    from mlx_lm import load
    from mlx_lm.generate import _merge_caches
    from mlx_lm.models.cache import make_prompt_cache

    network = load(str(directory))[0]

    def read(width: int, length: int, cache: list[Any]) -> None:
        network(mx.zeros((width, length), mx.int32) + mx.arange(length)[None] % 1000, cache=cache)
        mx.eval([layer.state for layer in cache])

    def decode(cache: list[Any], width: int) -> None:
        token = mx.zeros((width, 1), mx.int32)
        for _ in range(DECODE_STEPS):
            token = mx.argmax(network(token, cache=cache)[:, -1:], axis=-1)
            mx.eval(token)

    head = make_prompt_cache(network)
    head_s = _best(lambda: read(1, shared, make_prompt_cache(network))) if shared else 0.0
    if shared:
        read(1, shared, head)

    def behind(width: int) -> list[Any]:
        merged: list[Any] = _merge_caches([head] * width)
        mx.eval([layer.state for layer in merged if not layer.empty()])
        return merged

    token_s = min(
        _best(lambda cache, width=width: read(width, own, cache), lambda width=width: behind(width)) / (width * own)
        for width in TOGETHER
        if width <= rows
    )

    def grown() -> list[Any]:
        cache = behind(rows)
        read(rows, own, cache)
        return cache

    step_s = _best(lambda cache: decode(cache, rows), grown) / DECODE_STEPS
    return {"head_s": head_s, "token_s": token_s, "step_s": step_s}


def _best(work: Callable[..., None], prepare: Callable[[], Any] | None = None) -> float:
    took = []
    for _ in range(REPEATS):
        prepared = () if prepare is None else (prepare(),)
        began = time.perf_counter()
        work(*prepared)
        took.append(time.perf_counter() - began)
    return min(took)


def main() -> None:
    directory = Path(sys.argv[1])
    os.environ |= child_environment({}, platform.system())
    prefer_openblas(threads_for(sum(file.stat().st_size for file in weight_files(directory))))
    shared, own, rows = map(int, sys.argv[2:])
    sys.stdout.write(json.dumps(measure(directory, shared, own, rows)) + "\n")


if __name__ == "__main__":
    main()
