"""A child process that takes and gives frames on its pipes. The last lines of its standard error are kept."""

import asyncio
import contextlib
import fcntl
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import ClassVar, Self

from pylon.frames import FrameDecoder

_READ_BYTES = 65_536
# A pipe holds 64 KiB by default, about two long prompts. What does not fit has to be copied and kept by asyncio.
_PIPE_BYTES = 1024 * 1024
_LAST_LINES, _LINE_CHARS = 20, 500


class FramedProcess:
    """A child and its three pipes. Made by `start`; whoever starts one must call `end`."""

    # The program's own exit codes, each with the words that complete "the process …".
    CODES: ClassVar[Mapping[int, str]] = {}

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._errors = asyncio.create_task(self._read_errors())
        self._unsent: list[bytes] = []
        # Why it was killed, in the words of whoever killed it: the exit code does not tell.
        self._verdict = ""

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str], folder: str | None = None) -> Self:
        """Starts a child that inherits three pipes and no other descriptor. `folder` is its working directory.

        Raises OSError.
        """
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
        _enlarge_input_pipe(process)
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def last_lines(self) -> list[str]:
        """The last lines that it wrote on standard error; long ones are cut."""
        return list(self._last_lines)

    def send_frame(self, frame: bytes) -> None:
        """Sends a frame; those of one turn of the event loop go out in one write. Ignored if the child has died."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._write)
        self._unsent.append(frame)

    async def frames(self, look: Callable[[bytearray], None] | None = None) -> AsyncIterator[dict[str, object]]:
        """The child's frames until its pipe ends. Raises WireError on anything else. `look`: see `FrameDecoder`."""
        decoder = FrameDecoder(look)
        stdout = self._process.stdout
        while stdout is not None and (data := await stdout.read(_READ_BYTES)):
            for frame in decoder.feed(data):
                yield frame

    def signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def kill(self, verdict: str = "") -> None:
        """Kills the child. The first `verdict` given is what `end` returns, to complete "the process …"."""
        self._verdict = self._verdict or verdict
        self.signal(signal.SIGKILL)

    async def end(self) -> str:
        """Kills the child if it still lives and waits for its end; returns words that complete "the process …"."""
        self.kill()
        try:
            code = await self._process.wait()
            # The pipe ends with the child, so its last lines are complete then.
            await self._errors
        finally:
            # Also when the caller is cancelled: a transport that the event loop's end leaves open warns when it is
            # collected, and there is no public way to close it.
            self._process._transport.close()  # type: ignore[attr-defined]
        return self._verdict or self.CODES.get(code) or _exit_in_words(code)

    async def exited(self, within_s: float) -> None:
        """Waits up to `within_s` seconds for the child to end by itself."""
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


def _enlarge_input_pipe(process: asyncio.subprocess.Process) -> None:
    # Linux alone has this call. It fails when all pipes of the user together exceed their limit (pipe(7)).
    if process.stdin is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(process.stdin.get_extra_info("pipe"), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _exit_in_words(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
