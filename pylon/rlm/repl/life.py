"""One child process of a sandbox, from its start to its end: requests to it, and sub-calls from it."""

import asyncio
import contextlib
import signal
from dataclasses import dataclass

import psutil

from pylon.clock import Clock
from pylon.errors import SandboxError, UsageError, WireError, refusal
from pylon.frames import encode
from pylon.rlm.repl.answering import Answering
from pylon.rlm.repl.child import SandboxChild
from pylon.rlm.repl.protocol import ErrorKind, OnCalls
from pylon.rlm.repl.stopwatch import Stopwatch
from pylon.rlm.repl.wire import (
    Asked,
    FromSandbox,
    Printed,
    Ready,
    RunningOutput,
    Unable,
    check_value_count,
    from_sandbox,
)
from pylon.tasks import end

START_S = 60.0
# How long a cell may go on after it was told that its time is over, before its child is killed.
GRACE_S = 2.0
# Seconds between two looks at a running cell's time and memory.
_LOOK_S = 0.25
# The same between cells, when nothing should be running.
_LOOK_AT_REST_S = 1.0
# What WebAssembly's runtime prints when the stack overflows, and what is reported for that.
_STACK_ENDED = "overflowed its stack"
_NO_STACK = "ran out of stack: a recursion without end, or data or text nested thousands deep"


@dataclass(frozen=True, slots=True)
class Backend:
    """A kind of sandbox: the module that its child runs, with arguments.

    `interrupts` tells whether a cell can be ended with its variables kept, and `threads` whether its code can go on
    computing while it waits for a sub-call. `overhead_bytes` is the resident memory
    that the child may use beside the context and the cells' memory, None if the child limits itself.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    interrupts: bool
    threads: bool
    overhead_bytes: int | None


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why a sandbox has ended, or has to be ended, in the middle of a cell."""

    kind: ErrorKind
    text: str


class Life:
    """A running child of a sandbox. One request at a time: `ask`, or `cell`."""

    def __init__(self, backend: Backend, child: SandboxChild, on_calls: OnCalls, clock: Clock) -> None:
        self._backend = backend
        self._child = child
        self._clock = clock
        self._answering = Answering(on_calls, child.send_frame, self._call_out, self._call_back)
        self._watch = Stopwatch(clock.monotonic())
        self._expected: asyncio.Future[FromSandbox] | None = None
        self._fault = ""
        self._rest: asyncio.Task[None] | None = None
        self.printed = RunningOutput(0)
        self._reader = asyncio.create_task(self._read(), name="what a sandbox says")

    @classmethod
    async def start(
        cls, backend: Backend, folder: str, hello: dict[str, object], on_calls: OnCalls, clock: Clock
    ) -> "Life":
        """Starts a child and has it load the context, which `hello` describes.

        Raises SandboxError, and UsageError for a context that is not of the kind it was declared to be.
        """
        try:
            child = await SandboxChild.spawn(backend.module, backend.arguments, folder)
        except OSError as error:
            raise SandboxError(
                f"the {backend.name} sandbox did not start: {refusal(error)}",
                hint=(
                    "The system has no resources for another process: too many processes, too little "
                    "memory, or too many open files."
                ),
            ) from error
        life = cls(backend, child, on_calls, clock)
        try:
            answer = await life.ask(hello, START_S)
        except BaseException:
            await life.end()
            raise
        if isinstance(answer, Ready):
            return life
        how = await life.end()
        if isinstance(answer, Unable):
            kind = UsageError if answer.context else SandboxError
            raise kind(answer.text, hint=answer.hint)
        said = "\n".join(child.last_lines)
        raise SandboxError(
            f"The {backend.name} sandbox did not start: it {how}." + (f" It said: {said}" if said else "")
        )

    async def ask(self, message: dict[str, object], within_s: float) -> FromSandbox | None:
        """The child's answer to a request; None if it died or took too long, and then it must be ended."""
        self._wake()
        self._answering.start_cell(0)
        expected = self._expect(message)
        await asyncio.wait([expected], timeout=within_s)
        return expected.result() if expected.done() and not expected.cancelled() else None

    async def cell(
        self, message: dict[str, object], seconds: float, calls: int, rss_bytes: int | None, output_bytes: int
    ) -> tuple[FromSandbox | Stopped, float]:
        """Runs a cell: its outcome, and the seconds that its own code took.

        After Stopped the child must be ended; `printed` holds what the cell had printed until then.
        """
        self._answering.start_cell(calls)
        self.printed = RunningOutput(output_bytes)
        self._wake()
        self._watch = Stopwatch(self._clock.monotonic())
        expected = self._expect(message)
        before = self._cpu_s()
        limit = seconds
        while True:
            await asyncio.wait([expected], timeout=min(max(limit - self._used(), 0.01), _LOOK_S))
            used = self._used()
            if expected.cancelled():
                return Stopped("died", ""), used
            if expected.done():
                self._rest = asyncio.create_task(self._at_rest(seconds, rss_bytes))
                return expected.result(), used
            # The clock stands still while a sub-call is open, but another thread may compute meanwhile.
            computed = self._cpu_s() - before if self._backend.threads else 0.0
            if computed >= limit or (used >= limit and not self._watch.waiting):
                if not self._backend.interrupts or limit > seconds:
                    return Stopped("time", f"The cell ran for more than {round(seconds, 1):g} s and was ended."), used
                self._child.interrupt()
                limit = max(used, computed) + GRACE_S
            if rss_bytes is not None and self._rss_bytes() > rss_bytes:
                return Stopped("memory", "The cell used more memory than it may and was ended."), used

    async def end(self) -> str:
        """Ends the child, whatever it is doing, and returns how it ended."""
        self._wake()
        try:
            how = await self._child.end()
        finally:
            await end(self._reader)
            await self._answering.cancel()
        if any(_STACK_ENDED in line for line in self._child.last_lines) or how.endswith(signal.SIGSEGV.name):
            how = f"{how}, since it {_NO_STACK}"
        return self._fault or how

    async def _at_rest(self, seconds: float, rss_bytes: int | None) -> None:
        """Ends a child that goes on computing after its cell: in a thread, or after a forged outcome.

        It may take as much processor time and memory as a cell.
        """
        before, over = self._cpu_s(), False
        while not over:
            await asyncio.sleep(_LOOK_AT_REST_S)
            over = self._cpu_s() - before > seconds or (rss_bytes is not None and self._rss_bytes() > rss_bytes)
        self._fault = (
            "went on after its cell had ended, for longer or with more memory than a cell may, and was ended"
        )
        self._child.kill()

    def _wake(self) -> None:
        if self._rest is not None:
            self._rest.cancel()

    def _expect(self, message: dict[str, object]) -> "asyncio.Future[FromSandbox]":
        expected: asyncio.Future[FromSandbox] = asyncio.get_running_loop().create_future()
        self._expected = expected
        if self._reader.done():
            expected.cancel()
        self._child.send_frame(encode(message))
        return expected

    async def _read(self) -> None:
        try:
            async for frame in self._child.frames(lambda body: check_value_count(body, self._answering.most_prompts)):
                message = from_sandbox(frame, most_prompts=self._answering.most_prompts)
                if isinstance(message, Printed):
                    # Accepted between cells too: a thread that outlives its cell may still print.
                    if not self.printed.take(message):
                        self._fault = "printed more than a cell may print"
                        break
                elif not isinstance(message, Asked):
                    if self._expected is None or self._expected.done():
                        # Otherwise a forged message would be taken for the next cell's outcome.
                        self._fault = "spoke unasked"
                        break
                    self._expected.set_result(message)
                elif not await self._answering.take(message):
                    self._fault = "made more requests than a cell may make"
                    break
        except WireError as error:
            self._fault = f"broke the protocol ({error})"
        finally:
            self._child.kill()
            if self._expected is not None and not self._expected.done():
                self._expected.cancel()

    def _used(self) -> float:
        return self._watch.used(self._clock.monotonic())

    def _call_out(self) -> None:
        self._watch.call_out(self._clock.monotonic())

    def _call_back(self) -> None:
        self._watch.call_back(self._clock.monotonic())

    def _cpu_s(self) -> float:
        with contextlib.suppress(psutil.Error):
            used = psutil.Process(self._child.pid).cpu_times()
            return float(used.user + used.system)
        return 0.0

    def _rss_bytes(self) -> int:
        with contextlib.suppress(psutil.Error):
            return int(psutil.Process(self._child.pid).memory_info().rss)
        return 0
