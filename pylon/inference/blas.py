"""Loads OpenBLAS for MLX on Linux, whose wheel comes with the reference BLAS: about 20 times slower on prompts."""

import ctypes
import os
import platform
from collections.abc import Iterable
from pathlib import Path

import psutil

# Its paths on Debian, Ubuntu and Fedora, threaded builds first.
_PLACES = (
    "/usr/lib/{machine}-linux-gnu/openblas-pthread/libopenblas.so.0",
    "/usr/lib/{machine}-linux-gnu/openblas-openmp/libopenblas.so.0",
    "/usr/lib/{machine}-linux-gnu/libopenblas.so.0",
    "/usr/lib64/libopenblasp.so.0",
    "/usr/lib64/libopenblas.so.0",
)

_SMALL_BYTES = 32 * 1024 * 1024


def openblas_places(system: str, machine: str) -> list[Path]:
    """The paths at which OpenBLAS may be, by `platform.system()` and `platform.machine()`."""
    return [Path(place.format(machine=machine)) for place in _PLACES] if system == "Linux" else []


def threads_for(weights_bytes: int) -> int | None:
    """The number of threads that suits weights of that size; None is OpenBLAS's own choice, one for each core.

    Measured on needle-1 (6 MB, 2 cores): with two threads the same work takes twice the processor time and no less
    wall time, since they mostly wait for each other.
    """
    return 1 if weights_bytes < _SMALL_BYTES else None


def processors() -> int:
    """Physical cores that this process may use: two threads of one core would share its arithmetic unit."""
    cores = psutil.cpu_count(logical=False) or 1
    return min(cores, len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else cores


def prefer_openblas(threads: int | None = None, places: Iterable[Path] | None = None) -> Path | None:
    """Loads the first OpenBLAS that is found and returns its path, or None. To be called before mlx is imported.

    Symbols of a globally loaded library take precedence over those of a library's own dependencies, so MLX then calls
    OpenBLAS as if it had been preloaded. OPENBLAS_NUM_THREADS, if set, overrides `threads`.
    """
    if places is None:
        places = openblas_places(platform.system(), platform.machine())
    for place in places:
        if not place.is_file():
            continue
        try:
            library = ctypes.CDLL(str(place), mode=ctypes.RTLD_GLOBAL)
        except OSError:  # built for another kind of process: the next may fit
            continue
        if threads is not None and "OPENBLAS_NUM_THREADS" not in os.environ:
            library.openblas_set_num_threads(threads)
        return place
    return None
