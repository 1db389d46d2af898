"""The peer of an engine: `mlx_lm.server` or llama.cpp's server, with the same model on this machine, over HTTP."""

import asyncio
import contextlib
import os
import platform
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import psutil

from pylon.bench.engine_load import Load, Tokens, load
from pylon.errors import EngineFailedError
from pylon.inference.blas import openblas_places, processors, threads_for
from pylon.inference.child.environment import child_environment
from pylon.inference.engine import EngineSpec, ModelInfo
from pylon.inference.llama.cells import ROW_TOKENS
from pylon.inference.models.weights import weight_files

START_S = 300.0
ANSWER_S = 600.0
_RESETS, _AFTER_RESET_S = 100, 0.01
# The peer of each engine, and the ways in which it is asked; its fastest way counts.
PEERS = {"mlx": "mlx-lm-server", "llama": "llama-server"}
WAYS = {"mlx": ("batching", "one at a time", "seed set"), "llama": ("batching", "one at a time")}


@contextlib.asynccontextmanager
async def peer(spec: EngineSpec, model: ModelInfo, in_flight: int) -> AsyncIterator["Peer"]:
    """Runs the peer of the spec's engine. Raises EngineFailedError."""
    start = _mlx_server(spec, in_flight) if spec.engine == "mlx" else _llama_server(spec, model, in_flight)
    process, url = await start
    limits = httpx.Limits(max_connections=in_flight)
    try:
        async with httpx.AsyncClient(base_url=url, timeout=ANSWER_S, limits=limits, trust_env=False) as client:
            await _started(client, process)
            yield Peer(client, in_flight, psutil.Process(process.pid))
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _mlx_server(spec: EngineSpec, in_flight: int) -> tuple[asyncio.subprocess.Process, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-P", "-m", "mlx_lm", "server", "--model", str(spec.model_dir), "--port", str(port)]
    command += ["--decode-concurrency", str(in_flight), "--log-level", "ERROR"]
    nothing = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *command, env=_environment(spec.model_dir), stdout=nothing, stderr=nothing
    )
    return process, f"http://127.0.0.1:{port}"


async def _llama_server(spec: EngineSpec, model: ModelInfo, in_flight: int) -> tuple[asyncio.subprocess.Process, str]:
    """Starts llama.cpp's server with as many threads as ours, and as much context for each row."""
    size = sum(file.stat().st_size for file in weight_files(spec.model_file)) if spec.model_file else 0
    numbers = (in_flight, min(model.context, ROW_TOKENS), threads_for(size) or processors())
    command = [sys.executable, "-P", "-m", "pylon.bench.llama_server", str(spec.model_file), *map(str, numbers)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    url = (await process.stdout.readline()).decode().strip() if process.stdout else ""
    if not url:
        raise EngineFailedError("llama.cpp's server did not start", hint="./scripts/setup --dev installs xllamacpp.")
    return process, url


class Peer:
    """A running server that is asked."""

    def __init__(self, client: httpx.AsyncClient, in_flight: int, process: psutil.Process) -> None:
        self._client = client
        self._in_flight = in_flight
        self._process = process

    def cpu_s(self) -> float:
        """Processor seconds of the server so far."""
        return cpu_s(self._process)

    async def answer(self, prompts: list[str], most: int, way: str) -> Load:
        """Asks all prompts in one of its `WAYS`, with greedy sampling and answers of at most `most` tokens."""
        ask = self._asker(most, seed=1 if way == "seed set" else None)
        return await load(ask, prompts, 1 if way == "one at a time" else self._in_flight)

    def _asker(self, most: int, seed: int | None) -> Callable[[str], Awaitable[Tokens]]:
        async def ask(prompt: str) -> Tokens:
            body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": most, "temperature": 0}
            answer = await self._post(body if seed is None else body | {"seed": seed})
            answer.raise_for_status()
            usage = answer.json()["usage"]
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
            return Tokens(usage["prompt_tokens"], usage["completion_tokens"], usage["prompt_tokens"] - cached)

        return ask

    async def _post(self, body: dict[str, object]) -> httpx.Response:
        # Its listener holds five connections that are not accepted yet, and resets some if there are more.
        for attempt in range(_RESETS):
            try:
                return await self._client.post("/v1/chat/completions", json=body)
            except httpx.TransportError:
                if attempt == _RESETS - 1:
                    raise
                await asyncio.sleep(_AFTER_RESET_S)
        raise AssertionError("unreachable")


def cpu_s(process: psutil.Process) -> float:
    """Processor seconds of a process so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def _environment(directory: Path | None) -> dict[str, str]:
    environment = child_environment(os.environ, platform.system())
    blas = next(
        (str(place) for place in openblas_places(platform.system(), platform.machine()) if place.exists()), ""
    )
    if blas and directory is not None:
        environment["LD_PRELOAD"] = blas
        threads = threads_for(sum(file.stat().st_size for file in weight_files(directory)))
        if threads is not None:
            environment.setdefault("OPENBLAS_NUM_THREADS", str(threads))
    return environment


async def _started(client: httpx.AsyncClient, process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_S):
            while process.returncode is None:
                with contextlib.suppress(httpx.TransportError):
                    await client.get("/health", timeout=5)
                    return
                await asyncio.sleep(0.2)
    raise EngineFailedError("the peer did not start")
