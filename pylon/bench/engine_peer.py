"""`mlx_lm.server` as a peer: the same model on the same machine, under the same BLAS, asked over its own HTTP."""

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
from pylon.inference.blas import openblas_places, threads_for
from pylon.inference.environment import child_environment
from pylon.inference.weights import weight_files

START_S = 300.0
ANSWER_S = 600.0
_RESETS, _AFTER_RESET_S = 100, 0.01
# How it may be asked; the best of these counts for it.
WAYS = ("batching", "one at a time", "seed set")


@contextlib.asynccontextmanager
async def peer(directory: Path, in_flight: int) -> AsyncIterator["Peer"]:
    """A server that runs while this is entered. Raises EngineFailedError when it does not start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlx_lm", "server", "--model", str(directory), "--port", str(port)]
    command += ["--decode-concurrency", str(in_flight), "--log-level", "ERROR"]
    process = await asyncio.create_subprocess_exec(
        *command, env=_environment(directory), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    limits = httpx.Limits(max_connections=in_flight)
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=ANSWER_S, limits=limits, trust_env=False
        ) as client:
            await _started(client, process)
            yield Peer(client, in_flight, psutil.Process(process.pid))
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


class Peer:
    def __init__(self, client: httpx.AsyncClient, in_flight: int, process: psutil.Process) -> None:
        self._client = client
        self._in_flight = in_flight
        self._process = process

    def cpu_s(self) -> float:
        """Processor seconds of the server so far."""
        return cpu_s(self._process)

    async def answer(self, prompts: list[str], most: int, way: str) -> Load:
        """Asks them all, greedily, in one of WAYS; answers have at most `most` tokens."""
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
        # Its listener holds five connections that are not yet accepted; of more at once it resets some.
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


def _environment(directory: Path) -> dict[str, str]:
    environment = child_environment(os.environ, platform.system())
    blas = next(
        (str(place) for place in openblas_places(platform.system(), platform.machine()) if place.exists()), ""
    )
    if blas:
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
    raise EngineFailedError("mlx_lm.server did not start")
