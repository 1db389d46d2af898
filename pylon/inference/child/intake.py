"""Reads the node's commands from the pipe and prepares requests while the engine computes.

It has three threads beside the engine's own. One only reads the pipe, so that a cancelled request is dropped at once,
and the child ends at once when the pipe closes. Two prepare requests by `engine.Preparing`: one those with a JSON
schema, in which customers take turns; the other those without, which need not wait for anybody's schema to compile.
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
from pylon.inference.child.turns import TurnQueue
from pylon.inference.engine import Engine, Failed, GenerationRequest, Preparing

_READ_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that is ready for the engine. `take` adds it, on the engine's thread."""

    id: str
    stream: bool
    take: Callable[[], None]


# `Failed` is a request that could not be prepared.
type Command = Load | Prepared | Failed | Score | Cancel | Close


class _Queue:
    """Requests that are prepared one after the other.

    `since` is when the preparation of the present one began, in monotonic seconds; None if there is none.
    """

    def __init__(self, waiting: "queue.SimpleQueue[Generate | Close] | TurnQueue") -> None:
        self.waiting = waiting
        self.since: float | None = None


class Intake:
    """The node's commands, in the order in which the engine's thread takes them: requests once they are prepared."""

    def __init__(self, source: int, clock: Clock, ended: Callable[[Path | None], None]) -> None:
        """`source` is the pipe's descriptor. `ended` is called when it closes, with the scratch folder of `Load`."""
        self._source = source
        self._clock = clock
        self._ended = ended
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        # A schema may take seconds to compile, and customers may send one after the other.
        self._plain, self._guided = self._lines = (_Queue(queue.SimpleQueue()), _Queue(TurnQueue()))
        self._ending = len(self._lines)  # lines that have not come to Close
        self._awaited: set[str] = set()  # requests that are not ready yet
        self._lock = threading.Lock()  # of `_awaited` and what follows from it
        self._scratch: Path | None = None
        threading.Thread(target=self._read, daemon=True, name="pipe").start()

    def get(self, wait_s: float | None = 0.0) -> Command:
        """The next command, within `wait_s` seconds; None waits for ever. Raises queue.Empty."""
        return self._commands.get(block=wait_s is None or wait_s > 0, timeout=wait_s)

    def prepare_for(self, engine: Engine, send: Callable[[Sequence[FromChild]], None]) -> None:
        """Starts to prepare requests for this engine. `send` is called from other threads."""
        for line in self._lines:
            threading.Thread(target=self._prepare_all, args=(line, engine, send), daemon=True, name="prepare").start()

    @property
    def preparing(self) -> bool:
        """Whether requests are being prepared or wait for that."""
        return bool(self._awaited)

    @property
    def preparing_s(self) -> float:
        """Seconds since the preparation of the present request began; of two, the longer."""
        now = self._clock.monotonic()
        return max(0.0 if (since := line.since) is None else now - since for line in self._lines)

    def _read(self) -> None:
        """Reads commands until the pipe closes."""
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
                    # After the last request: the engine must not be closed while one is being prepared.
                    self._awaited.clear()
                    for line in self._lines:
                        line.waiting.put(command)
                case Load():
                    self._scratch = command.scratch
                    self._commands.put(command)
                case _:
                    self._commands.put(command)

    def _prepare_all(self, line: _Queue, engine: Engine, send: Callable[[Sequence[FromChild]], None]) -> None:
        while isinstance(command := line.waiting.get(), Generate):
            request = command.request
            if request.id not in self._awaited:
                continue
            # If this thread dies here, `since` stays set, and the beats stop.
            line.since = self._clock.monotonic()
            if line is self._guided:
                # Told before, since the process may not survive it.
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
    """The failure to report for a request that could not be prepared or added."""
    match error:
        case PromptError():
            return Failed(request_id, "prompt", str(error), error.hint)
        case ParameterError():
            return Failed(request_id, "parameter", str(error), error.hint)
    # Only the type of the error is reported: its text may quote the prompt.
    return Failed(request_id, "engine", f"the engine could not take the prompt ({type(error).__name__})")
