"""The processes of a benchmark: each reads calls and writes answers as JSON lines, and ends with its caller.

`Part` is the caller's side, `serve` the process's. A part ends when its standard input does, so that none outlives
a benchmark that was killed.
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

# A folder called `pylon` where the command happens to be called must not be imported.
_PYTHON = (sys.executable, "-P", "-m")
_LINE_BYTES = 1024 * 1024
_END_S = 5.0

type Settings = dict[str, Any]
type Calls = Mapping[str, Callable[..., Awaitable[object]]]


class Part:
    """A running process of the benchmark."""

    def __init__(self, module: str, process: asyncio.subprocess.Process, log_file: Path) -> None:
        self.hello: dict[str, Any] = {}
        self._module = module
        self._process = process
        self._log = log_file

    @classmethod
    async def start(cls, module: str, settings: Settings, log_file: Path, *, timeout: float) -> Self:
        """Starts `python -m module`; `hello` is what it says when it is ready. Raises `UnreachableError`."""
        with log_file.open("wb") as stream:
            # Its own session: a terminal's Ctrl-C is for the caller, which then ends its parts.
            process = await asyncio.create_subprocess_exec(
                *_PYTHON, module, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=stream,
                limit=_LINE_BYTES, start_new_session=True,
            )  # fmt: skip
        part = cls(module, process, log_file)
        try:
            part.hello = await part._exchange(settings, timeout)
        except BaseException:
            await part.close()
            raise
        return part

    @property
    def pid(self) -> int:
        return self._process.pid

    async def call(self, name: str, *, timeout: float = 60.0, **params: Any) -> dict[str, Any]:
        """The answer to one call. Raises `UnreachableError` when the part ended, failed or is silent."""
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
            raise UnreachableError(f"{self._module} ended", hint=self._last_words())
        answer: dict[str, Any] = orjson.loads(line)
        if "error" in answer:
            raise UnreachableError(f"{self._module}: {answer['error']}", hint=answer.get("hint", ""))
        return answer

    def cpu_s(self) -> float:
        """Processor seconds that it and its own children have taken so far."""
        total = 0.0
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            for one in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    times = one.cpu_times()
                    total += times.user + times.system
        return total

    def kill(self) -> None:
        """As a power cut would end it (kill -9)."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def close(self) -> None:
        """Ends it: by the end of its input, and by force when that is not heeded."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _END_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self._log.read_text("utf-8", "replace").strip().splitlines()
            return lines[-1] if lines else ""
        return ""


def serve(opened: Callable[[Settings], AbstractAsyncContextManager[tuple[object, Calls]]]) -> None:
    """A part's main: `opened` makes it ready for the settings in the first line, and gives its hello and calls."""
    # What the machine is short of shows as figures here, not as lines of a log.
    log.configure("error")
    # As every command does.
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
