"""Keeps an inference child alive: starts it, watches it, and replaces it if it ends, stalls or sends garbage."""

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pylon import log
from pylon.clock import Clock
from pylon.errors import EngineError, EngineFailedError, ModelError, NoRoomError, WireError
from pylon.frames import encode
from pylon.inference.child.messages import Beat, Close, FromChild, Load, Ready, Unloadable
from pylon.inference.child.pending import PendingRequests
from pylon.inference.child.process import ChildProcess
from pylon.inference.engine import EngineSpec, ModelInfo
from pylon.tasks import Tasks

_log = log.get("inference")

# Silence is counted in ticks of a tenth of the stall limit, not by the clock: a child must not be blamed if the node
# itself was suspended for a minute.
_TICKS = 10

_DOUBLINGS = 20
# If a child was ready for so many seconds, its end has a new cause: the back-off starts anew.
_SETTLED_S = 60.0
_ROOM_MOST_S = 300.0
# Loads that fail in a row before requests are refused instead of kept waiting.
_MOST_LOADS = 5

type EngineState = Literal["loading", "ready", "unloaded", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """Limits of a child: seconds of silence until it counts as stalled, and how often and when to try again."""

    stall_s: float = 30.0
    loading_s: float = 300.0
    requeues: int = 2
    backoff_s: float = 0.2
    backoff_most_s: float = 30.0
    room_s: float = 30.0  # where memory is short, this long until the next try, and longer each time
    close_s: float = 5.0
    unload_s: float = 0.0  # without a request for so long the model leaves memory; 0 keeps it there


def doubled(first_s: float, times: int, most_s: float) -> float:
    """Seconds to wait before the next try, after `times` earlier waits: doubled each time, up to `most_s`."""
    # A node runs for months: that many doublings would overflow a float.
    return min(first_s * 2.0 ** min(times, _DOUBLINGS), most_s)


class Supervisor:
    """Runs one child after the other. `pending` holds their requests; `on_beat` is called with each beat."""

    def __init__(
        self,
        spec: EngineSpec,
        clock: Clock,
        limits: ChildLimits,
        command: Sequence[str],
        pending: PendingRequests,
        on_beat: Callable[[Beat], None],
    ) -> None:
        self._state: EngineState = "stopped"
        self._listeners: list[Callable[[], None]] = []
        self.model: ModelInfo | None = None
        self.child: ChildProcess | None = None
        self.restarts = 0
        # Why the last child ended, and what to do about it.
        self.reason = ""
        self.hint = ""
        # The error that callers get while the state is `failed` or `stopped`.
        self.failure: EngineError = EngineFailedError("the engine has not been started")
        self._spec = spec
        self._clock = clock
        self._limits = limits
        self._command = command
        self._pending = pending
        self._on_beat = on_beat
        self._tasks = Tasks()
        self._scratch: Path | None = None
        self._heard = False
        # Why the last child could not load, if that may soon be over.
        self._unready: EngineFailedError | None = None
        self._wanted = asyncio.Event()
        self._asked_at = 0.0

    @property
    def state(self) -> EngineState:
        """The state; listeners of `watch` are called when it changes."""
        return self._state

    @state.setter
    def state(self, state: EngineState) -> None:
        if state != self._state:
            self._state = state
            for listener in tuple(self._listeners):
                listener()

    def watch(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Calls `listener` whenever `state` has changed, until the returned function is called."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def start(self) -> None:
        """Returns at once; the model loads meanwhile. Raises WireError if the spec's options are not JSON."""
        self._scratch = Path(tempfile.mkdtemp(prefix="pylon-inference-"))  # mkdtemp makes it 0700
        load = encode(Load(self._spec, self._scratch))
        self.state = "loading"
        self._tasks.start(self._supervise(load), "engine supervisor").add_done_callback(self._ended)

    async def close(self) -> None:
        """Ends the child. Requests without an answer fail with EngineFailedError."""
        was_ready = self.state == "ready"
        self.state = "stopped"
        self.failure = EngineFailedError("the engine was stopped")
        self._pending.fail_all(self.failure)
        try:
            if self.child is not None and was_ready:
                self.child.send(Close())
                await self.child.exited(self._limits.close_s)
        finally:
            # Even if this is cancelled, neither the child nor its files may remain.
            try:
                await self._tasks.close()
            finally:
                if self._scratch is not None:
                    shutil.rmtree(self._scratch, ignore_errors=True)
                    self._scratch = None

    @property
    def ready_child(self) -> ChildProcess | None:
        """The child if its model is loaded, else None."""
        return self.child if self.state == "ready" else None

    def wake(self) -> None:
        """Loads the model again if it was unloaded, since there is a request."""
        self._wanted.set()

    async def child_when_ready(self) -> ChildProcess:
        """Waits for a child whose model is loaded; loads an unloaded one again.

        Raises EngineError if there will be none.
        """
        changed = asyncio.Event()
        unwatch = self.watch(changed.set)
        try:
            while (child := self.ready_child) is None:
                if self.state in ("failed", "stopped"):
                    raise self.failure
                self.wake()
                changed.clear()
                await changed.wait()
            return child
        finally:
            unwatch()

    def answered(self) -> None:
        """Notes that a request has ended: the idle time begins now."""
        self._asked_at = self._clock.monotonic()

    @property
    def _over(self) -> bool:
        """Whether there will be no further child: closed, or the model's files are at fault."""
        failed = isinstance(self.failure, ModelError) and not isinstance(self.failure, NoRoomError)
        return self.state == "stopped" or failed

    async def _supervise(self, load: bytes) -> None:
        in_a_row = 0  # children that ended before they had settled
        without_room = 0
        while True:
            ready_at = await self._one_life(load)
            if self._over:
                return
            if self.state == "unloaded":
                in_a_row = without_room = 0
                await self._rest()
                continue
            if self.state == "failed" and isinstance(self.failure, NoRoomError):
                await asyncio.sleep(doubled(self._limits.room_s, without_room, _ROOM_MOST_S))
                without_room += 1
                continue
            without_room = 0
            settled = ready_at is not None and self._clock.monotonic() - ready_at >= _SETTLED_S
            in_a_row = 1 if settled else in_a_row + 1
            self.restarts += 1
            self._pending.requeue(self.reason)
            if ready_at is None and in_a_row >= _MOST_LOADS:
                self.state = "failed"
                self.failure = self._unready or EngineFailedError(
                    f"the model's process {self.reason}, {in_a_row} times in a row",
                    hint="Look for its last messages in logs/pylon.log in PYLON_HOME.",
                )
                self._pending.fail_all(self.failure)
            await asyncio.sleep(doubled(self._limits.backoff_s, in_a_row - 1, self._limits.backoff_most_s))

    async def _rest(self) -> None:
        """Waits, with the model unloaded, until there is a request."""
        _log.info("the model was unloaded", idle_s=self._limits.unload_s)
        await self._wanted.wait()
        self.state = "loading"

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Fails all requests if the supervisor itself has failed: nobody must wait for ever."""
        if not task.cancelled() and (fault := task.exception()) is not None:
            self.state = "failed"
            self.failure = EngineFailedError(f"the engine's supervisor failed ({type(fault).__name__})")
            self._pending.fail_all(self.failure)

    async def _one_life(self, load: bytes) -> float | None:
        """Runs one child from start to end; returns when it became ready, or None. Leaves no process."""
        ready_at = self._unready = None
        try:
            child = self.child = await ChildProcess.spawn(self._command)
        except OSError as error:
            self.reason, self.hint = f"could not be started ({error.strerror})", ""
            return None
        watchdog = self._tasks.start(self._watch(child), "engine watchdog")
        try:
            child.send_frame(load)
            async for message in child.messages():
                self._heard = True
                if isinstance(message, Ready):
                    ready_at = self._clock.monotonic()
                self._take(message, child)
        except WireError as error:
            child.kill("sent something unreadable")
            _log.warning("unreadable message from the inference child", error=str(error))
        finally:
            watchdog.cancel()
            self.child = None
            if self.state == "ready":
                self.state = "loading"
            ended, said = await child.end(), self._unready
            self._pending.child_ended(ended)
            self.reason, self.hint = (ended, "") if said is None else (str(said), said.hint)
        if not self._over and self.state not in ("unloaded", "failed"):
            _log.warning("the inference child ended", reason=self.reason, last_lines=child.last_lines[-5:])
        return ready_at

    def _take(self, message: FromChild, child: ChildProcess) -> None:
        match message:
            case Beat():
                self._on_beat(message)
            case Ready():
                self.model = message.model
                self.state = "ready"
                self.answered()
                _log.info("model ready", model=message.model.id, weights=message.model.sha256)
                self._pending.send_all(child)
            case Unloadable(again="soon"):
                self._unready = EngineFailedError(message.message, hint=message.hint)
            case Unloadable():
                told, later = self.state == "failed", message.again == "with room"
                self.failure = (NoRoomError if later else ModelError)(message.message, hint=message.hint)
                self.state = "failed"
                if not (told and later):
                    _log.error("the model cannot be loaded", reason=message.message, tried_again=later)
                self._pending.fail_all(self.failure)
            case _:
                self._pending.take(message)

    async def _watch(self, child: ChildProcess) -> None:
        tick_s = self._limits.stall_s / _TICKS
        silent_s = 0.0
        while True:
            await asyncio.sleep(tick_s)
            self._unload_when_idle(child)
            silent_s = 0.0 if self._heard else silent_s + tick_s
            self._heard = False
            limit_s = self._limits.stall_s if self.state == "ready" else self._limits.loading_s
            if silent_s >= limit_s:
                child.kill(f"gave no sign of life for {limit_s:g} s")
                return

    def _unload_when_idle(self, child: ChildProcess) -> None:
        idle_s = self._clock.monotonic() - self._asked_at
        if self._limits.unload_s and self.state == "ready" and self._pending.idle and idle_s >= self._limits.unload_s:
            self._wanted.clear()
            self.state = "unloaded"
            child.send(Close())
