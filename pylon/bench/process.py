"""One process of a benchmark: it reads calls and writes answers, each a JSON line, and ends with its caller.

`BenchProcess` is the caller's side, `serve` the side of the process itself. The process ends when its standard input
closes, so that none outlives a benchmark that was killed.
"""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Self

import orjson
import psutil

from pylon import log
from pylon.collect import collect_rarely
from pylon.errors import PylonError, UnreachableError

# With -P, so that a folder named `pylon` in the current directory is not imported.
_PYTHON = (sys.executable, "-P", "-m")
_LINE_BYTES = 1024 * 1024
_END_S = 5.0

type Settings = dict[str, Any]
type Calls = Mapping[str, Callable[..., Awaitable[object]]]


class BenchProcess:
    """A running process of a benchmark. `hello` is what it told when it was ready."""

    def __init__(self, module: str, process: asyncio.subprocess.Process, log_file: Path) -> None:
        self.hello: dict[str, Any] = {}
        self._module = module
        self._process = process
        self._log = log_file

    @classmethod
    async def start(cls, module: str, settings: Settings, log_file: Path, *, timeout: float) -> Self:
        """Starts `python -m module` and waits until it is ready, for `timeout` seconds at most.

        Raises `UnreachableError`.
        """
        with log_file.open("wb") as stream:
            # Its own session: a terminal's Ctrl-C goes to the caller alone, which then ends its processes.
            process = await asyncio.create_subprocess_exec(
                *_PYTHON, module, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=stream,
                limit=_LINE_BYTES, start_new_session=True,
            )  # fmt: skip
        started = cls(module, process, log_file)
        try:
            started.hello = await started._exchange(settings, timeout)
        except BaseException:
            await started.close()
            raise
        return started

    @property
    def pid(self) -> int:
        return self._process.pid

    async def call(self, name: str, *, timeout: float = 60.0, **params: Any) -> dict[str, Any]:
        """The answer to one call, which takes `timeout` seconds at most.

        Raises `UnreachableError` if the process ended, failed or does not answer in time.
        """
        return await self._exchange({"call": name, **params}, timeout)

    async def _exchange(self, message: object, timeout: float) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None  # noqa: S101, PT018 - both were asked for
        try:
            stdin.write(orjson.dumps(message) + b"\n")
            await stdin.drain()
            line = await asyncio.wait_for(stdout.readline(), timeout)
        except TimeoutError:
            raise UnreachableError(f"{self._module} did not answer within {timeout:g} s") from None
        except ConnectionError:
            line = b""
        if not line:
            raise UnreachableError(f"{self._module} ended", hint=self._last_log_line())
        answer: dict[str, Any] = orjson.loads(line)
        if "error" in answer:
            raise UnreachableError(f"{self._module}: {answer['error']}", hint=answer.get("hint", ""))
        return answer

    def cpu_s(self) -> float:
        """Processor seconds that the process and its children have used so far."""
        total = 0.0
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            for one in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    times = one.cpu_times()
                    total += times.user + times.system
        return total

    def kill(self) -> None:
        """Kills the process at once (SIGKILL), as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def close(self) -> None:
        """Ends the process by closing its input, and kills it if it has not ended some seconds later."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _END_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    def _last_log_line(self) -> str:
        with contextlib.suppress(OSError):
            lines = self._log.read_text("utf-8", "replace").strip().splitlines()
            return lines[-1] if lines else ""
        return ""


def serve(opened: Callable[[Settings], AbstractAsyncContextManager[tuple[object, Calls]]]) -> None:
    """The main function of a benchmark's process.

    `opened` takes the settings, which are the first line of standard input, and yields the greeting and the functions
    that may be called.
    """
    # Warnings of an overloaded machine are left out: the figures show it.
    log.configure("error")
    # As every command does, so that the figures are a command's.
    collect_rarely()
    asyncio.run(_serve(opened))


async def _serve(opened: Callable[[Settings], AbstractAsyncContextManager[tuple[object, Calls]]]) -> None:
    reader = asyncio.StreamReader(limit=_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    settings = await reader.readline()
    if not settings:
        return
    opening = opened(orjson.loads(settings))
    try:
        hello, calls = await opening.__aenter__()
    except PylonError as error:
        _answer({"error": str(error), "hint": error.hint})
        return
    try:
        _answer(hello)
        while line := await reader.readline():
            message = orjson.loads(line)
            try:
                _answer(await calls[message.pop("call")](**message))
            except PylonError as error:
                _answer({"error": str(error), "hint": error.hint})
    finally:
        await opening.__aexit__(None, None, None)


def _answer(message: object) -> None:
    sys.stdout.write(orjson.dumps(message).decode() + "\n")
    sys.stdout.flush()
