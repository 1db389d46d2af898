"""One life of the inference child, as a process with two pipes."""

import asyncio
import contextlib
import os
import platform
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence

from pylon.frames import FrameDecoder, encode
from pylon.inference.environment import child_environment
from pylon.inference.messages import FromChild, ToChild, from_child

# -P: a folder called `pylon` where the command happens to be called must not be imported.
COMMAND = (sys.executable, "-P", "-m", "pylon.inference.child")
_READ_BYTES = 65_536
_LAST_LINES = 20


class ChildProcess:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._errors = asyncio.create_task(self._read_errors())
        self._unsent: list[bytes] = []
        # Why it was killed; set by whoever kills it, since an exit code alone does not tell.
        self.verdict = ""

    @classmethod
    async def spawn(cls, command: Sequence[str]) -> "ChildProcess":
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=child_environment(os.environ, platform.system()),
            start_new_session=True,  # a terminal's Ctrl-C is for the node, which then closes the child
        )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def last_lines(self) -> list[str]:
        """What it last wrote on standard error."""
        return list(self._last_lines)

    def send(self, message: ToChild) -> None:
        """Raises WireError when the message fits no frame. To a child that died this does nothing."""
        self.send_frame(encode(message))

    def send_frame(self, frame: bytes) -> None:
        """Frames of one turn of the event loop go out in one write: requests come in crowds."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._write)
        self._unsent.append(frame)

    def _write(self) -> None:
        frames, self._unsent = self._unsent, []
        stdin = self._process.stdin
        if stdin is not None and not stdin.is_closing():
            stdin.write(b"".join(frames))

    async def messages(self) -> AsyncIterator[FromChild]:
        """Until its pipe ends. Raises WireError on anything that is no message."""
        decoder = FrameDecoder()
        stdout = self._process.stdout
        while stdout is not None and (data := await stdout.read(_READ_BYTES)):
            for message in decoder.feed(data):
                yield from_child(message)

    def kill(self, verdict: str) -> None:
        self.verdict = self.verdict or verdict
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> str:
        """Waits until it is gone, killing it when it still lives; says how it ended."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        code = await self._process.wait()
        # The pipe of a killed child ends with it, so its last words are complete.
        await self._errors
        return self.verdict or _how(code)

    async def exited(self, within_s: float) -> None:
        """Gives it time to leave by itself."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), within_s)

    async def _read_errors(self) -> None:
        stderr = self._process.stderr
        if stderr is None:
            return
        # Not by lines: a line may be longer than the reader's limit.
        rest = ""
        while data := await stderr.read(_READ_BYTES):
            *lines, rest = (rest + data.decode("utf-8", "replace"))[-_READ_BYTES:].split("\n")
            self._last_lines.extend(lines)
        if rest:
            self._last_lines.append(rest)


def _how(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
