"""The environment of the inference child: only what a model needs, so no secret of the node's travels along."""

import platform
from collections.abc import Iterable, Mapping
from pathlib import Path

_KEPT = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
)

# Where Debian, Ubuntu and Fedora put OpenBLAS, threaded builds first.
_OPENBLAS = (
    "/usr/lib/{machine}-linux-gnu/openblas-pthread/libopenblas.so.0",
    "/usr/lib/{machine}-linux-gnu/libopenblas.so.0",
    "/usr/lib/{machine}-linux-gnu/openblas-openmp/libopenblas.so.0",
    "/usr/lib64/libopenblasp.so.0",
    "/usr/lib64/libopenblas.so.0",
)


def openblas_candidates(system: str, machine: str) -> list[Path]:
    """Where OpenBLAS may lie. MLX's Linux wheel carries the reference BLAS: 20 times slower at reading prompts."""
    return [Path(place.format(machine=machine)) for place in _OPENBLAS] if system == "Linux" else []


def child_environment(parent: Mapping[str, str], openblas: Iterable[Path]) -> dict[str, str]:
    """`openblas`: candidates; the first that exists is preloaded."""
    environment = {name: parent[name] for name in _KEPT if name in parent}
    # Models come from disk alone: no library may fetch, and none needs a thread pool for one prompt at a time.
    environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    library = next((place for place in openblas if place.is_file()), None)
    if library is not None:
        environment["LD_PRELOAD"] = str(library)
    return environment


def this_machine(parent: Mapping[str, str]) -> dict[str, str]:
    return child_environment(parent, openblas_candidates(platform.system(), platform.machine()))
