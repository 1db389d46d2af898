"""A child process that takes and gives frames on its pipes, and whose last words are kept."""

import asyncio
import contextlib
import fcntl
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import ClassVar, Self

from pylon.frames import FrameDecoder

_READ_BYTES = 65_536
# A pipe holds 64 KiB, which is two long prompts: with more, what is given to the child is not cut and kept here.
_PIPE_BYTES = 1024 * 1024
_LAST_LINES, _LINE_CHARS = 20, 500


class FramedProcess:
    """Made by `start`; whoever makes one calls `end`."""

    # What exit codes of its own mean, as an end of "the process …".
    CODES: ClassVar[Mapping[int, str]] = {}

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._errors = asyncio.create_task(self._read_errors())
        self._unsent: list[bytes] = []
        # Why it was killed; set by whoever kills it, since an exit code alone does not tell.
        self._verdict = ""

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str], folder: str | None = None) -> Self:
        """Of this process it inherits three pipes and nothing else. Raises OSError."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            cwd=folder,
            close_fds=True,
            start_new_session=True,  # a terminal's Ctrl-C is for this process, which then ends the child
        )
        _widen(process)
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def last_lines(self) -> list[str]:
        """What it last wrote on standard error, long lines cut."""
        return list(self._last_lines)

    def send_frame(self, frame: bytes) -> None:
        """Frames of one turn of the event loop go out in one write. To a child that died this does nothing."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._write)
        self._unsent.append(frame)

    async def frames(self, look: Callable[[bytearray], None] | None = None) -> AsyncIterator[dict[str, object]]:
        """Until its pipe ends. Raises WireError on anything that is no frame; `look` as in `FrameDecoder`."""
        decoder = FrameDecoder(look)
        stdout = self._process.stdout
        while stdout is not None and (data := await stdout.read(_READ_BYTES)):
            for frame in decoder.feed(data):
                yield frame

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def kill(self, verdict: str = "") -> None:
        self._verdict = self._verdict or verdict
        self.signal(signal.SIGKILL)

    async def end(self) -> str:
        """Waits until it is gone, killing it when it still lives; says how it ended."""
        self.kill()
        try:
            code = await self._process.wait()
            # The pipe of a killed child ends with it, so its last words are complete.
            await self._errors
        finally:
            # Whoever waits may be cancelled. What the event loop's end leaves open complains when it is collected.
            # There is no public way to close it.
            self._process._transport.close()  # type: ignore[attr-defined]
        return self._verdict or self.CODES.get(code) or _how(code)

    async def exited(self, within_s: float) -> None:
        """Gives it time to leave by itself."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), within_s)

    def _write(self) -> None:
        frames, self._unsent = self._unsent, []
        stdin = self._process.stdin
        if stdin is not None and not stdin.is_closing():
            stdin.write(b"".join(frames))

    async def _read_errors(self) -> None:
        stderr = self._process.stderr
        # Not by lines: a line may be longer than the reader's limit.
        rest = ""
        while stderr is not None and (data := await stderr.read(_READ_BYTES)):
            *lines, rest = (rest + data.decode("utf-8", "replace"))[-_READ_BYTES:].split("\n")
            self._last_lines.extend(line[:_LINE_CHARS] for line in lines)
        if rest:
            self._last_lines.append(rest[:_LINE_CHARS])


def _widen(process: asyncio.subprocess.Process) -> None:
    # Linux alone lets one ask. A user's pipes have a limit together, beyond which they stay as they are.
    if process.stdin is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(process.stdin.get_extra_info("pipe"), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _how(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
