"""The environment of the inference child: only what a model needs, so that it gets no secret of the node."""

from collections.abc import Mapping

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

# Libraries must not download models, and a tokenizer of one prompt at a time needs no thread pool.
_SET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def child_environment(parent: Mapping[str, str], system: str) -> dict[str, str]:
    """The variables of a child. `system` is the value of `platform.system()`."""
    environment = {name: parent[name] for name in _KEPT if name in parent} | _SET
    if system == "Linux":
        # On Linux MLX calls a C++ compiler for every new fused kernel, which takes seconds and makes nothing faster.
        # On Metal fusing needs no compiler and pays.
        environment["MLX_DISABLE_COMPILE"] = "1"
    return environment
