import importlib.util
import os
import platform
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from pylon.clock import SystemClock
from pylon.inference.blas import prefer_openblas
from pylon.inference.child.environment import child_environment
from pylon.inference.child.supervisor import ChildLimits
from pylon.inference.engine import EngineSpec, GenerationRequest, Message, Sampling
from pylon.inference.models.weights import PACKAGED
from pylon.inference.service import InferenceService
from tests.inference.children import MISBEHAVING

# As in the child, before any test imports mlx.
prefer_openblas(threads=1)
os.environ |= child_environment({}, platform.system())

Ask = Callable[..., GenerationRequest]
Serve = Callable[..., Awaitable[InferenceService]]

# An engine that is built from source, and so not there in every set-up.
LLAMA = pytest.param(
    "llama",
    marks=[
        pytest.mark.slow,
        pytest.mark.skipif(
            importlib.util.find_spec("llama_cpp") is None, reason="llama.cpp is not built: ./scripts/setup --llama"
        ),
    ],
)
QUICK = ChildLimits(stall_s=2, loading_s=60, backoff_s=0.01, room_s=0.01, close_s=2)


@pytest.fixture
def ask() -> Ask:
    """Makes requests: `ask("a prompt", key="7", max_tokens=5, stop=("x",))`."""

    def make(
        prompt: str,
        *,
        key: str = "1",
        model: str = "needle-1",
        customer: str = "",
        stream: bool = False,
        **sampling: object,
    ) -> GenerationRequest:
        settings = {"max_tokens": 16} | sampling
        return GenerationRequest(key, (Message("user", prompt),), Sampling(**settings), model, customer, stream)

    return make


@pytest.fixture(scope="session")
def babble_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """needle-1 with random weights: it never ends by itself and rarely says a thing twice, which shows more."""
    import mlx.core as mx

    directory = tmp_path_factory.mktemp("models") / "babble"
    # Without what limits its answers: this one writes whatever is asked for.
    shutil.copytree(PACKAGED / "needle-1", directory, ignore=shutil.ignore_patterns("pylon.json"))
    weights = directory / "model.safetensors"
    mx.random.seed(1)
    trained = mx.load(str(weights))
    wild = {
        name: mx.ones(value.shape) if value.ndim == 1 else mx.random.normal(value.shape) * 0.1
        for name, value in sorted(trained.items())
    }
    # Overwriting in place would pull the mapped file from under the arrays.
    mx.save_safetensors(str(directory / "wild.safetensors"), wild, metadata={"format": "mlx"})
    (directory / "wild.safetensors").replace(weights)
    return directory


@pytest.fixture(scope="session")
def babble_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for llama.cpp: all of its weights are drawn at random, norms too."""
    packaged = (PACKAGED / "needle-1.gguf").read_bytes()
    weights = (PACKAGED / "needle-1" / "model.safetensors").read_bytes()
    # The same weights, of 32 bits each, end both files; safetensors has eight bytes and so many more in front.
    size = len(weights) - 8 - int.from_bytes(weights[:8], "little")
    wild = np.random.default_rng(1).normal(0, 0.1, size // 4).astype(np.float32).tobytes()
    file = tmp_path_factory.mktemp("models") / "babble.gguf"
    file.write_bytes(packaged[: len(packaged) - len(wild)] + wild)
    return file


@pytest.fixture
def babble_gguf(babble_file: Path) -> EngineSpec:
    return EngineSpec("llama", "babble", slots=8, model_file=babble_file)


@pytest.fixture
def babble(babble_dir: Path) -> EngineSpec:
    return EngineSpec("mlx", "babble", babble_dir, slots=8)


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts services, and closes them after the test."""
    services = []

    async def start(spec: EngineSpec, *, limits: ChildLimits = QUICK, **options: object) -> InferenceService:
        service = InferenceService(spec, SystemClock(), limits=limits, **options)
        services.append(service)
        await service.start()
        return service

    yield start
    for service in services:
        await service.close()


@pytest.fixture
def misbehave(serve: Serve, tmp_path: Path) -> Callable[..., Awaitable[InferenceService]]:
    """Starts the child of misbehaving.py, which does what the prompt says."""

    async def start(**options: object) -> InferenceService:
        spec = EngineSpec("misbehaving", "misbehaving", slots=2, options={"marks": str(tmp_path), **options})
        return await serve(spec, command=MISBEHAVING)

    return start
