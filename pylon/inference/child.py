"""The inference child's main: one engine, one loop, two pipes.

Started fresh by the node as `python -m pylon.inference.child`. One thread loads, steps and frees the model, since
MLX's streams belong to a thread; another only reads the pipe. When the pipe ends the node is gone, and so is the
child.
"""

import contextlib
import errno
import faulthandler
import importlib
import os
import queue
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from pylon.clock import Clock, SystemClock
from pylon.errors import ModelError, ParameterError, PromptError, WireError
from pylon.frames import FrameDecoder, encode
from pylon.inference.blas import prefer_openblas, threads_for
from pylon.inference.engine import Engine, EngineSpec, Event, Failed, Progress, ScoreRequest
from pylon.inference.messages import (
    OUT_OF_MEMORY,
    Beat,
    Cancel,
    Close,
    FromChild,
    Generate,
    Load,
    Ready,
    Score,
    ToChild,
    Unloadable,
    to_child,
)
from pylon.inference.weights import weight_files

BEAT_S = 0.5
# Requests of one run come in a burst: what is there after a moment of quiet is read in one group, not in two.
_QUIET_S, _BURST_S = 0.003, 0.03
# The wire lets at most two partial answers a second through; twice that keeps them fresh and the pipe quiet.
PROGRESS_S = 0.25
_READ_BYTES = 65_536

# What MLX says on Linux and on Metal, and the C++ library when it can start no thread.
_REFUSED = (
    "unable to allocate",
    "attempting to allocate",
    "insufficient memory",
    "bad_alloc",
    "resource temporarily unavailable",
)

# By name, so that an engine's libraries are imported in the child that runs it and nowhere else.
ENGINES = {
    "mlx": ("pylon.inference.mlx", "MlxEngine"),
    "llama": ("pylon.inference.llama", "LlamaEngine"),
    "openai": ("pylon.inference.openai", "OpenAIEngine"),
    "instant": ("pylon.inference.instant", "InstantEngine"),
}
# Engines whose library does not come with every installation.
_INSTALL = {"llama": "`./scripts/setup --llama` builds it, in minutes; a C++ compiler must be there."}


def open_engine(spec: EngineSpec) -> Engine:
    """Raises ModelError."""
    if spec.engine not in ENGINES:
        raise ModelError(f"There is no engine {spec.engine!r}.", hint=f"Engines are: {', '.join(ENGINES)}.")
    module, name = ENGINES[spec.engine]
    if spec.engine == "mlx" and spec.model_dir is not None:
        prefer_openblas(threads_for(sum(file.stat().st_size for file in weight_files(spec.model_dir))))
    try:
        made: Callable[[EngineSpec], Engine] = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise ModelError(
            f"The {spec.engine} engine needs {error.name}, which is not installed.",
            hint=_INSTALL.get(spec.engine, ""),
        ) from error
    return made(spec)


class EngineLoop:
    """Takes commands between steps, tells what the steps brought, and beats."""

    def __init__(
        self,
        engine: Engine,
        commands: "queue.Queue[ToChild]",
        send: Callable[[Sequence[FromChild]], None],
        clock: Clock,
    ) -> None:
        """`send` takes what belongs together: it goes out in one write."""
        self._engine = engine
        self._commands = commands
        self._send = send
        self._clock = clock
        self._shown: dict[str, float] = {}  # streamed requests, and when their progress was last told
        self._busy_s = 0.0
        self._beat_at = clock.monotonic()

    def run(self) -> None:
        """Until Close."""
        while self._take_commands():
            if self._engine.busy:
                began = self._clock.monotonic()
                self._tell(self._engine.step())
                self._busy_s += self._clock.monotonic() - began
            self._beat()

    def _take_commands(self) -> bool:
        # An idle child sleeps here, but never past its next beat.
        idle = not self._engine.busy
        wait, until = BEAT_S if idle else 0.0, float("inf")
        with contextlib.suppress(queue.Empty):
            while True:
                command = self._commands.get(block=wait > 0, timeout=wait)
                if idle:
                    until = min(until, self._clock.monotonic() + _BURST_S)
                    wait = min(_QUIET_S, until - self._clock.monotonic())
                match command:
                    case Close():
                        return False
                    case Generate():
                        self._add(command)
                    case Score():
                        self._score(command.request)
                    case Cancel():
                        self._shown.pop(command.id, None)
                        self._engine.cancel(command.id)
                    case Load():
                        raise WireError("A second load: one child runs one model.")
        return True

    def _add(self, command: Generate) -> None:
        request = command.request
        try:
            self._engine.add(request)
        except PromptError as error:
            self._send([Failed(request.id, "prompt", str(error), error.hint)])
        except ParameterError as error:
            self._send([Failed(request.id, "parameter", str(error), error.hint)])
        except Exception as error:  # one request's fault must not take its neighbours down
            # The error's own text may quote the prompt, so only its kind is told.
            self._send([Failed(request.id, "engine", f"The engine could not take the prompt ({_kind(error)}).")])
        else:
            if command.stream:
                self._shown[request.id] = float("-inf")

    def _score(self, request: ScoreRequest) -> None:
        score = getattr(self._engine, "score", None)
        if score is None:
            self._send([Failed(request.id, "engine", "This engine cannot read answers of others.")])
            return
        try:
            self._send([score(request)])
        except Exception as error:  # the text is a stranger's, and must not take anybody down
            self._send([Failed(request.id, "engine", f"The answer could not be read ({_kind(error)}).")])

    def _tell(self, events: Sequence[Event]) -> None:
        wanted = [event for event in events if self._is_wanted(event)]
        if wanted:
            self._send(wanted)

    def _is_wanted(self, event: Event) -> bool:
        if not isinstance(event, Progress):
            self._shown.pop(event.id, None)
            return True
        now = self._clock.monotonic()
        shown = self._shown.get(event.id)
        if shown is None or now - shown < PROGRESS_S:
            return False
        self._shown[event.id] = now
        return True

    def _beat(self) -> None:
        now = self._clock.monotonic()
        if now - self._beat_at >= BEAT_S:
            self._beat_at = now
            count = self._engine.tokens
            self._send([Beat(count.prompt, count.completion, self._busy_s, count.read)])


def main(open_engine: Callable[[EngineSpec], Engine] = open_engine) -> None:
    """Runs the child. `open_engine` is the seam for tests of engines that misbehave."""
    faulthandler.enable()
    # A terminal's Ctrl-C and systemd's stop reach every process; the node decides when the model goes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    source, sink = _private_pipes()
    commands: queue.Queue[ToChild] = queue.Queue()
    _Reader(source, commands).start()
    load = commands.get()
    if not isinstance(load, Load):
        raise WireError("The first message must be load.")
    # MLX compiles kernels into a predictable folder under TMPDIR and runs what it finds there.
    os.environ["TMPDIR"] = str(load.scratch)
    os.environ["HF_HOME"] = str(load.scratch / "hf")

    try:
        _serve(load.spec, open_engine, commands, lambda messages: _write(sink, b"".join(map(encode, messages))))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        with contextlib.suppress(MemoryError):
            traceback.print_exc()
            sys.stderr.flush()
        # Not by closing the engine, which may ask for more.
        os._exit(OUT_OF_MEMORY)


def _serve(
    spec: EngineSpec,
    open_engine: Callable[[EngineSpec], Engine],
    commands: "queue.Queue[ToChild]",
    send: Callable[[Sequence[FromChild]], None],
) -> None:
    try:
        engine = open_engine(spec)
        model = engine.load()
    except ModelError as error:
        send([Unloadable(str(error), error.hint)])
        return
    send([Ready(model)])
    try:
        EngineLoop(engine, commands, send, SystemClock()).run()
    finally:
        engine.close()


def is_out_of_memory(error: Exception) -> bool:
    """Whether the system refused memory, or a thread, which it does for lack of memory: MLX has no type for it."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, MemoryError) or (isinstance(found, OSError) and found.errno == errno.ENOMEM):
            return True
        if isinstance(found, RuntimeError) and any(sign in str(found).lower() for sign in _REFUSED):
            return True
        # What closes an engine may fail too, and hide what it was closed for.
        found = found.__context__
    return False


class _Reader(threading.Thread):
    """Turns the pipe into commands, and ends the process when the pipe ends."""

    def __init__(self, source: int, commands: "queue.Queue[ToChild]") -> None:
        super().__init__(daemon=True, name="pipe")
        self._scratch: Path | None = None
        self._source = source
        self._commands = commands

    def run(self) -> None:
        decoder = FrameDecoder()
        try:
            while data := os.read(self._source, _READ_BYTES):
                for message in decoder.feed(data):
                    command = to_child(message)
                    if isinstance(command, Load):
                        self._scratch = command.scratch
                    self._commands.put(command)
        except WireError as error:
            print(f"the node sent something unreadable: {error}", file=sys.stderr)  # noqa: T201
        # The node is gone, and the other thread may be deep in a computation that nobody waits for.
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
        os._exit(1)


def _private_pipes() -> tuple[int, int]:
    """Moves the pipes away from descriptors 0 and 1: what a library prints must not land between frames."""
    source, sink = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return source, sink


def _write(sink: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sink, view) :]


def _kind(error: Exception) -> str:
    return type(error).__name__


if __name__ == "__main__":
    main()
