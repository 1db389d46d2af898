"""`pylon bench needle`: how long one core takes to read a chunk of 500 tokens with needle-1.

Measured with MLX alone, with MLX over OpenBLAS, and with llama.cpp.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from pylon.bench.needle import Engine, answers, count_tokens, sized_task
from pylon.errors import EngineFailedError
from pylon.inference.blas import openblas_places
from pylon.inference.models import needle

CHUNK_TOKENS = 500
_LIMIT_S = 600


def time_chunks(repeats: int) -> dict[str, float | None]:
    """Milliseconds from a prompt of 500 tokens to its whole answer, on one core: medians of `repeats` prompts.

    Keys: `mlx`, `mlx_openblas`, `llama`; None for what is not installed. Each is measured in a process of its own,
    because a process stays with the BLAS that it loaded first. Raises `EngineFailedError`.
    """
    blas = any(place.is_file() for place in openblas_places(platform.system(), platform.machine()))
    return {
        "mlx": _in_child("mlx", repeats, openblas=False),
        "mlx_openblas": _in_child("mlx", repeats, openblas=True) if blas else None,
        "llama": _in_child("llama", repeats, openblas=False) if _has_llama() else None,
    }


def _in_child(engine: Engine, repeats: int, *, openblas: bool) -> float:
    code = f"from pylon.bench.needle_timing import measure; measure({engine!r}, {repeats}, openblas={openblas})"
    # Without a BLAS that the shell preloads.
    inherited = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    environment = {**inherited, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(  # noqa: S603 - our own interpreter and our own line
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False
    )
    if run.returncode:
        raise EngineFailedError(f"the {engine} timing ended with exit {run.returncode}", hint=run.stderr[-300:])
    result: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return float(result["ms"])


def measure(engine: Engine, repeats: int, *, openblas: bool) -> None:
    """Times `engine` in this process, on one core where the system can pin it, and prints JSON."""
    if sys.platform == "linux":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    prompts = [_prompt(i) for i in range(repeats + 1)]
    with answers(engine, openblas=openblas) as answer:
        answer(prompts[0])
        took = sorted(_seconds(partial(answer, text)) for text in prompts[1:])
    sys.stdout.write(json.dumps({"ms": round(1000 * took[len(took) // 2], 1)}) + "\n")


def _prompt(i: int) -> str:
    task = sized_task(i, count_tokens(), CHUNK_TOKENS, present=True)
    return needle.prompt(task.question, task.chunk)


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _has_llama() -> bool:
    return any(importlib.util.find_spec(name) for name in ("llama_cpp", "xllamacpp"))
