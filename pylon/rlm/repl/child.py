"""One life of a sandbox's child process, with two pipes for frames."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence

from pylon.frames import FrameDecoder
from pylon.rlm.repl.wire import FromSandbox, from_sandbox

_READ_BYTES = 65_536
_LAST_LINES = 10
# Nothing else of this process's environment: keys and passphrases may be in it.
_KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT")


class SandboxChild:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._errors = asyncio.create_task(self._read_errors())

    @classmethod
    async def spawn(cls, module: str, arguments: Sequence[str], folder: str) -> "SandboxChild":
        """Runs a module of ours in `folder`. Of this process it inherits three pipes and nothing else."""
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            # -P: a folder called `pylon` where the command happens to be called must not be imported.
            *(sys.executable, "-P", "-m", module, *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment | {"HOME": folder, "TMPDIR": folder, "PYTHONNOUSERSITE": "1"},
            cwd=folder,
            close_fds=True,
            start_new_session=True,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, frame: bytes) -> None:
        """To a child that died this does nothing."""
        stdin = self._process.stdin
        if stdin is not None and not stdin.is_closing():
            stdin.write(frame)

    async def messages(self) -> AsyncIterator[FromSandbox]:
        """Until its pipe ends. Raises WireError on anything that is no message."""
        decoder = FrameDecoder()
        stdout = self._process.stdout
        while stdout is not None and (data := await stdout.read(_READ_BYTES)):
            for message in decoder.feed(data):
                yield from_sandbox(message)

    def interrupt(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGALRM)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> str:
        """Kills it if it still lives, waits until it is gone, and says how it ended."""
        self.kill()
        code = await self._process.wait()
        await self._errors
        how = f"ended with exit code {code}"
        if code < 0:
            with contextlib.suppress(ValueError):
                how = f"was ended by {signal.Signals(-code).name}"
        return how

    @property
    def last_lines(self) -> str:
        """What it last wrote on standard error."""
        return "\n".join(self._last_lines)

    async def _read_errors(self) -> None:
        stderr = self._process.stderr
        rest = ""
        while stderr is not None and (data := await stderr.read(_READ_BYTES)):
            *lines, rest = (rest + data.decode("utf-8", "replace"))[-_READ_BYTES:].split("\n")
            self._last_lines.extend(line[:500] for line in lines)
        if rest:
            self._last_lines.append(rest[:500])
