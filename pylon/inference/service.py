"""What the node sees of a model: ask it, and it answers, whatever becomes of the process that it lives in.

The inference child is started, watched, and started again when it dies, stalls or sends garbage. What it had in
hand is given to the next one, twice at the most for each request.
"""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pylon import log
from pylon.clock import Clock
from pylon.errors import EngineError, EngineFailedError, ModelError, ParameterError, PromptError, WireError
from pylon.frames import encode
from pylon.inference.engine import (
    SCHEMA_ENGINES,
    EngineSpec,
    Failed,
    Finished,
    Generation,
    GenerationRequest,
    ModelInfo,
    Progress,
    Scored,
    ScoreRequest,
)
from pylon.inference.messages import Beat, Cancel, Close, FromChild, Generate, Load, Ready, Score, Unloadable
from pylon.inference.process import COMMAND, ChildProcess
from pylon.inference.speed import Speed

_log = log.get("inference")

# Silence is counted in ticks of this part of the stall limit, not by the clock: a node that was itself stopped for
# a minute must not blame the child for it.
_TICKS = 10
_FAILURES: dict[str, type[EngineError]] = {
    "prompt": PromptError,
    "parameter": ParameterError,
    "engine": EngineFailedError,
}


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """Seconds of silence before a child counts as stalled, and how often what is tried again."""

    stall_s: float = 30.0
    loading_s: float = 300.0
    requeues: int = 2
    backoff_s: float = 0.2
    backoff_most_s: float = 30.0
    settled_s: float = 60.0  # a child that was ready for so long died of something new: back-off starts afresh
    loads: int = 5  # loads failed in a row before requests are refused instead of kept waiting
    close_s: float = 5.0
    unload_s: float = 0.0  # without a request for so long the model leaves memory; 0 keeps it there


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """`active` counts the requests in hand, waiting ones included; `reason` says why the last child ended.

    `unloaded` is a model that nobody asked for lately: the next request loads it again.
    """

    state: Literal["loading", "ready", "unloaded", "failed", "stopped"]
    model: ModelInfo | None
    active: int
    slots: int
    restarts: int
    tokens_in_per_s: float
    tokens_out_per_s: float
    reason: str = ""
    pid: int | None = None


@dataclass(slots=True, eq=False)
class _Job:
    frame: bytes
    on_progress: Callable[[Progress], None] | None
    answer: asyncio.Future[Generation]
    request_id: str
    sent: bool = False
    deaths: int = 0


class InferenceService:
    """`command` is how a child is started: the seam for tests of children that misbehave.

    `expected` are speeds (prompt and completion tokens per second) to name until there are observed ones.
    """

    def __init__(
        self,
        spec: EngineSpec,
        clock: Clock,
        *,
        limits: ChildLimits | None = None,
        command: Sequence[str] = COMMAND,
        expected: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        self._spec = spec
        self._clock = clock
        self._limits = limits or ChildLimits()
        self._command = command
        self._keys = itertools.count(1)
        self._jobs: dict[str, _Job] = {}
        self._scores: dict[str, asyncio.Future[tuple[int, ...]]] = {}
        self._supervisor: asyncio.Task[None] | None = None
        self._child: ChildProcess | None = None
        self._scratch: Path | None = None
        self._model: ModelInfo | None = None
        self._speed = Speed(expected)
        self._state: Literal["loading", "ready", "unloaded", "failed", "stopped"] = "stopped"
        self._failure: EngineError = EngineFailedError("The engine has not been started.")
        self._restarts = 0
        self._reason = ""
        self._heard = False
        self._wanted = asyncio.Event()
        self._asked_at = 0.0

    async def start(self) -> None:
        """Returns at once; the model loads meanwhile. Raises WireError when the spec's options are no JSON."""
        self._scratch = Path(tempfile.mkdtemp(prefix="pylon-inference-"))  # mkdtemp makes it 0700
        load = encode(Load(self._spec, self._scratch))
        self._state = "loading"
        self._supervisor = asyncio.create_task(self._supervise(load))
        self._supervisor.add_done_callback(self._supervisor_ended)

    async def generate(
        self, request: GenerationRequest, on_progress: Callable[[Progress], None] | None = None
    ) -> Generation:
        """Waits until the model is there, and for a slot. Cancelling the caller cancels the request.

        `on_progress` is called a few times a second at the most. Raises PromptError when this model can never
        answer this, ParameterError when it cannot do so as wished, ModelError when it cannot be loaded,
        EngineFailedError when the engine failed for good.
        """
        if request.model != self._spec.model:
            raise ModelError(f"This engine runs {self._spec.model}, not {request.model}.")
        if self._state in ("failed", "stopped"):
            raise self._failure
        key = str(next(self._keys))  # ours, so that two callers with the same id never meet in the child
        try:
            frame = encode(Generate(replace(request, id=key), stream=on_progress is not None))
        except WireError as error:
            raise PromptError(f"The prompt cannot be given to the engine: {error}") from None
        job = _Job(frame, on_progress, asyncio.get_running_loop().create_future(), request.id)
        self._jobs[key] = job
        if self._state == "ready":
            self._send(job)
        self._wanted.set()
        try:
            return await job.answer
        finally:
            self._asked_at = self._clock.monotonic()
            # Still listed: the caller went away, and the child does not know it yet.
            if self._jobs.pop(key, None) is not None and job.sent and self._child is not None:
                self._child.send(Cancel(key))

    async def score(self, request: ScoreRequest) -> tuple[int, ...]:
        """The ranks of an answer's tokens, and of ending after it (see `Scored`).

        Nothing is tried again: an answer that takes the child down must not do so twice. Raises EngineError.
        """
        child = self._child
        if self._state != "ready" or child is None:
            raise EngineFailedError("The model is not ready.")
        key = str(next(self._keys))
        try:
            frame = encode(Score(replace(request, id=key)))
        except WireError as error:
            raise PromptError(f"The answer cannot be given to the engine: {error}") from None
        self._scores[key] = asyncio.get_running_loop().create_future()
        child.send_frame(frame)
        try:
            return await self._scores[key]
        finally:
            del self._scores[key]

    @property
    def follows_schemas(self) -> bool:
        """Whether answers can be made to follow a JSON schema."""
        return self._spec.engine in SCHEMA_ENGINES

    @property
    def counted(self) -> Beat:
        """What the child has computed since it started, as of its last beat."""
        return self._speed.counted

    @property
    def slots(self) -> int:
        """How many requests run at once."""
        return self._spec.slots

    @property
    def model(self) -> ModelInfo | None:
        """The model, once it is known."""
        return self._model

    def status(self) -> EngineStatus:
        return EngineStatus(
            state=self._state,
            model=self._model,
            active=len(self._jobs),
            slots=self._spec.slots,
            restarts=self._restarts,
            tokens_in_per_s=self._speed.prompt_per_s,
            tokens_out_per_s=self._speed.completion_per_s,
            reason=self._reason,
            pid=self._child.pid if self._child is not None else None,
        )

    async def close(self) -> None:
        """Ends the child. What is still in hand fails with EngineFailedError."""
        was_ready = self._state == "ready"
        self._state = "stopped"
        self._failure = EngineFailedError("The engine was stopped.")
        self._fail_all(self._failure)
        if self._child is not None and was_ready:
            self._child.send(Close())
            await self._child.exited(self._limits.close_s)
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
            self._supervisor = None
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    @property
    def _over(self) -> bool:
        """No further child: closed, or the model's files are at fault."""
        return self._state == "stopped" or isinstance(self._failure, ModelError)

    async def _supervise(self, load: bytes) -> None:
        in_a_row = 0  # children that ended before they had settled
        while True:
            ready_at = await self._one_life(load)
            if self._over:
                return
            if self._state == "unloaded":
                in_a_row = 0
                await self._rest()
                continue
            settled = ready_at is not None and self._clock.monotonic() - ready_at >= self._limits.settled_s
            in_a_row = 1 if settled else in_a_row + 1
            self._restarts += 1
            self._requeue()
            if ready_at is None and in_a_row >= self._limits.loads:
                self._state = "failed"
                self._failure = EngineFailedError(
                    f"The model's process {self._reason}, {in_a_row} times in a row.",
                    hint="The log tells more; `pylon doctor` checks memory and files.",
                )
                self._fail_all(self._failure)
            await asyncio.sleep(min(self._limits.backoff_s * 2 ** (in_a_row - 1), self._limits.backoff_most_s))

    async def _rest(self) -> None:
        """Until there is a request."""
        _log.info("the model left memory", idle_s=self._limits.unload_s)
        self._wanted.clear()
        if not self._jobs:
            await self._wanted.wait()
        self._state = "loading"

    def _supervisor_ended(self, supervisor: asyncio.Task[None]) -> None:
        """A fault of our own must not leave callers waiting for ever."""
        if not supervisor.cancelled() and (fault := supervisor.exception()) is not None:
            self._state = "failed"
            self._failure = EngineFailedError(f"The engine's supervisor failed ({type(fault).__name__}).")
            _log.error("the engine's supervisor failed", exc_info=fault)
            self._fail_all(self._failure)

    async def _one_life(self, load: bytes) -> float | None:
        """One child from start to end; when it became ready, or None. Always leaves no process behind."""
        ready_at = None
        try:
            child = self._child = await ChildProcess.spawn(self._command)
        except OSError as error:
            self._reason = f"could not be started ({error.strerror})"
            return None
        watchdog = asyncio.create_task(self._watch(child))
        try:
            child.send_frame(load)
            async for message in child.messages():
                self._heard = True
                if isinstance(message, Ready):
                    ready_at = self._clock.monotonic()
                self._take(message)
        except WireError as error:
            child.kill("sent something unreadable")
            _log.warning("unreadable message from the inference child", error=str(error))
        finally:
            watchdog.cancel()
            self._child = None
            if self._state == "ready":
                self._state = "loading"
            self._reason = await child.end()
            for scored in self._scores.values():
                if not scored.done():
                    scored.set_exception(EngineFailedError(f"The model's process {self._reason}."))
        if not self._over and self._state != "unloaded":
            _log.warning("the inference child ended", reason=self._reason, last_lines=child.last_lines[-5:])
        return ready_at

    async def _watch(self, child: ChildProcess) -> None:
        tick_s = self._limits.stall_s / _TICKS
        silent_s = 0.0
        while True:
            await asyncio.sleep(tick_s)
            self._unload_when_idle(child)
            silent_s = 0.0 if self._heard else silent_s + tick_s
            self._heard = False
            limit_s = self._limits.stall_s if self._state == "ready" else self._limits.loading_s
            if silent_s >= limit_s:
                child.kill(f"gave no sign of life for {limit_s:g} s")
                return

    def _unload_when_idle(self, child: ChildProcess) -> None:
        idle_s = self._clock.monotonic() - self._asked_at
        if self._limits.unload_s and self._state == "ready" and not self._jobs and idle_s >= self._limits.unload_s:
            self._state = "unloaded"
            child.send(Close())

    def _take(self, message: FromChild) -> None:
        match message:
            case Beat():
                self._speed.observe(message)
            case Ready():
                self._model = message.model
                self._state = "ready"
                self._asked_at = self._clock.monotonic()
                _log.info("model ready", model=message.model.id, weights=message.model.sha256)
                for job in self._jobs.values():
                    self._send(job)
            case Unloadable():
                self._state = "failed"
                self._failure = ModelError(message.message, hint=message.hint)
                _log.error("the model cannot be loaded", reason=message.message)
                self._fail_all(self._failure)
            case Progress():
                self._progress(message)
            case Finished():
                if (finished := self._let_go(message.id)) is not None:
                    finished.answer.set_result(message.generation)
            case Scored():
                if (scored := self._scores.get(message.id)) is not None and not scored.done():
                    scored.set_result(message.ranks)
            case Failed() if (unscored := self._scores.get(message.id)) is not None:
                if not unscored.done():
                    unscored.set_exception(_FAILURES[message.error](message.message, hint=message.hint))
            case Failed():
                if (failed := self._let_go(message.id)) is not None:
                    failed.answer.set_exception(_FAILURES[message.error](message.message, hint=message.hint))

    def _progress(self, progress: Progress) -> None:
        job = self._jobs.get(progress.id)
        if job is None or job.on_progress is None or job.answer.done():
            return
        try:
            job.on_progress(replace(progress, id=job.request_id))
        except Exception as error:  # the caller's own fault goes back to the caller, and to nobody else
            job.answer.set_exception(error)

    def _send(self, job: _Job) -> None:
        if self._child is not None:
            job.sent = True
            self._child.send_frame(job.frame)

    def _let_go(self, key: str) -> _Job | None:
        """Takes an answered request off the list, unless its caller went away before."""
        job = self._jobs.get(key)
        if job is None or job.answer.done():
            return None
        return self._jobs.pop(key)

    def _requeue(self) -> None:
        """Everything the dead child had in hand waits for the next one, or fails when it died too often under it."""
        for key, job in list(self._jobs.items()):
            if not job.sent or job.answer.done():
                continue
            job.sent = False
            job.deaths += 1
            if job.deaths > self._limits.requeues:
                del self._jobs[key]
                job.answer.set_exception(
                    EngineFailedError(
                        f"The model's process {self._reason} while it worked on this, {job.deaths} times."
                    )
                )

    def _fail_all(self, failure: EngineError) -> None:
        for key, job in list(self._jobs.items()):
            if not job.answer.done():
                del self._jobs[key]
                job.answer.set_exception(type(failure)(str(failure), hint=failure.hint))
