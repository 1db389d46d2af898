"""The environment of the inference child: only what a model needs, so no secret of the node's travels along."""

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

# Models come from disk alone: no library may fetch. And no tokenizer needs a thread pool for one prompt at a time.
_SET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def child_environment(parent: Mapping[str, str], system: str) -> dict[str, str]:
    """`system` is what `platform.system()` says."""
    environment = {name: parent[name] for name in _KEPT if name in parent} | _SET
    if system == "Linux":
        # There MLX calls a C++ compiler, where one is installed, for every new fused kernel: seconds of standstill
        # each, and no faster afterwards. On Metal fusing needs no compiler and pays.
        environment["MLX_DISABLE_COMPILE"] = "1"
    return environment
