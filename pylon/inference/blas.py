"""OpenBLAS for MLX on Linux, where its wheel carries the reference BLAS: about 20 times slower at reading prompts."""

import contextlib
import ctypes
import platform
from collections.abc import Iterable
from pathlib import Path

# Where Debian, Ubuntu and Fedora put it, threaded builds first.
_PLACES = (
    "/usr/lib/{machine}-linux-gnu/openblas-pthread/libopenblas.so.0",
    "/usr/lib/{machine}-linux-gnu/openblas-openmp/libopenblas.so.0",
    "/usr/lib/{machine}-linux-gnu/libopenblas.so.0",
    "/usr/lib64/libopenblasp.so.0",
    "/usr/lib64/libopenblas.so.0",
)


def openblas_places(system: str, machine: str) -> list[Path]:
    return [Path(place.format(machine=machine)) for place in _PLACES] if system == "Linux" else []


def prefer_openblas(places: Iterable[Path] | None = None) -> Path | None:
    """Loads the first OpenBLAS that there is; says which. To be called before mlx is imported.

    Symbols of a library that was loaded globally are found before those of a library's own dependencies, so MLX
    then calls OpenBLAS as if it had been preloaded.
    """
    if places is None:
        places = openblas_places(platform.system(), platform.machine())
    for place in places:
        if place.is_file():
            with contextlib.suppress(OSError):  # of another build than this process: the next may fit
                ctypes.CDLL(str(place), mode=ctypes.RTLD_GLOBAL)
                return place
    return None
