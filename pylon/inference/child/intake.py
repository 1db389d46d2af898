"""What the node asks, on its way to the engine: read off the pipe, and made ready while the model computes.

Three threads beside the engine's own. One only reads the pipe, so that a request that nobody waits for any more goes
at once, and so does the child when the pipe ends. The others make requests ready, by `engine.Preparing`: one by one
those that have a JSON schema, and those that have none, which wait for nobody's schema.
"""

import os
import queue
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pylon.clock import Clock
from pylon.errors import ParameterError, PromptError, WireError
from pylon.frames import FrameDecoder
from pylon.inference.child.messages import Cancel, Close, Compiling, FromChild, Generate, Load, Score, to_child
from pylon.inference.engine import Engine, Failed, GenerationRequest, Preparing

_READ_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that waits for nothing but the engine: `take` gives it to it, on the engine's thread."""

    id: str
    stream: bool
    take: Callable[[], None]


# A request that cannot be answered is already told so.
type Command = Load | Prepared | Failed | Score | Cancel | Close


class _Line:
    """Requests that are made ready one after the other; `since` when the first of them is."""

    def __init__(self) -> None:
        self.waiting: queue.SimpleQueue[Generate | Close] = queue.SimpleQueue()
        self.since: float | None = None


class Intake:
    def __init__(self, source: int, clock: Clock, ended: Callable[[Path | None], None]) -> None:
        """`source` is the pipe's file descriptor; `ended` hears of its end, with the scratch folder it told of."""
        self._source = source
        self._clock = clock
        self._ended = ended
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._plain, self._guided = self._lines = (_Line(), _Line())
        self._ending = len(self._lines)  # lines that have not come to Close
        self._awaited: set[str] = set()  # requests that are not ready yet
        self._lock = threading.Lock()  # of `_awaited` and what follows from it
        self._scratch: Path | None = None
        threading.Thread(target=self._read, daemon=True, name="pipe").start()

    def get(self, wait_s: float | None = 0.0) -> Command:
        """The next command; None waits for ever. Raises queue.Empty."""
        return self._commands.get(block=wait_s is None or wait_s > 0, timeout=wait_s)

    def prepare_for(self, engine: Engine, send: Callable[[Sequence[FromChild]], None]) -> None:
        """From now on: what came before waits for this. `send` is called from other threads."""
        for line in self._lines:
            threading.Thread(target=self._prepare_all, args=(line, engine, send), daemon=True, name="prepare").start()

    @property
    def preparing(self) -> bool:
        """Whether there are requests that will be ready soon."""
        return bool(self._awaited)

    @property
    def preparing_s(self) -> float:
        """For how long the request that is being made ready has been so; of two, the longer."""
        now = self._clock.monotonic()
        return max(0.0 if (since := line.since) is None else now - since for line in self._lines)

    def _read(self) -> None:
        """Until the pipe ends."""
        decoder = FrameDecoder()
        try:
            while data := os.read(self._source, _READ_BYTES):
                for message in decoder.feed(data):
                    self._sort(to_child(message))
        except WireError as error:
            print(f"the node sent something unreadable: {error}", file=sys.stderr)  # noqa: T201
        except Exception as error:  # such as memory that was refused; nobody else would read on
            print(f"reading the pipe failed ({type(error).__name__})", file=sys.stderr)  # noqa: T201
        self._ended(self._scratch)

    def _sort(self, command: Load | Generate | Score | Cancel | Close) -> None:
        with self._lock:
            match command:
                case Generate():
                    self._awaited.add(command.request.id)
                    line = self._plain if command.request.sampling.schema is None else self._guided
                    line.waiting.put(command)
                case Cancel() if command.id in self._awaited:
                    self._awaited.remove(command.id)
                case Close():
                    # Behind the last request, since the engine must not be closed beneath one that is made ready.
                    self._awaited.clear()
                    for line in self._lines:
                        line.waiting.put(command)
                case Load():
                    self._scratch = command.scratch
                    self._commands.put(command)
                case _:
                    self._commands.put(command)

    def _prepare_all(self, line: _Line, engine: Engine, send: Callable[[Sequence[FromChild]], None]) -> None:
        while isinstance(command := line.waiting.get(), Generate):
            request = command.request
            if request.id not in self._awaited:
                continue
            # Where this thread dies it stays so for ever, which does not go unseen.
            line.since = self._clock.monotonic()
            if line is self._guided:
                # Before, since there may be no after.
                send([Compiling(request.id)])
            prepared = _prepared(engine, request)
            if line is self._guided:
                send([Compiling(None)])
            with self._lock:
                if request.id in self._awaited:
                    self._awaited.remove(request.id)
                    self._commands.put(prepared)
            line.since = None
        with self._lock:
            self._ending -= 1
            if not self._ending:
                self._commands.put(command)


def _prepared(engine: Engine, request: GenerationRequest) -> Prepared | Failed:
    if not isinstance(engine, Preparing):
        return Prepared(request.id, request.stream, partial(engine.add, request))
    try:
        return Prepared(request.id, request.stream, partial(engine.take, engine.prepare(request)))
    except Exception as error:  # one request's fault must not take its neighbours down
        return refusal(request.id, error)


def refusal(request_id: str, error: Exception) -> Failed:
    """What is told of a request that could not be taken in."""
    match error:
        case PromptError():
            return Failed(request_id, "prompt", str(error), error.hint)
        case ParameterError():
            return Failed(request_id, "parameter", str(error), error.hint)
    # The error's own text may quote the prompt, so only its kind is told.
    return Failed(request_id, "engine", f"The engine could not take the prompt ({type(error).__name__}).")
