"""The node's interface to a model: takes requests and answers them, across crashes of the inference child."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pylon.clock import Clock
from pylon.errors import ModelError
from pylon.inference.child.messages import Beat, Cancel
from pylon.inference.child.pending import PendingRequests
from pylon.inference.child.process import COMMAND
from pylon.inference.child.speed import Speed
from pylon.inference.child.supervisor import ChildLimits, EngineState, Supervisor
from pylon.inference.engine import (
    SCHEMA_ENGINES,
    EngineSpec,
    Generation,
    GenerationRequest,
    ModelInfo,
    Progress,
    ScoreRequest,
)


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """The state of the engine. `active` counts unanswered requests, including those that wait.

    `reason` says why the last child ended, `failure` why there is none if the state is `failed`, and `hint` what to
    do about it. In the state `unloaded` nobody has asked for a while, and the next request loads the model again.
    """

    state: EngineState
    model: ModelInfo | None
    active: int
    slots: int
    restarts: int
    tokens_in_per_s: float
    tokens_out_per_s: float
    reason: str = ""
    failure: str = ""
    hint: str = ""
    pid: int | None = None


class InferenceService:
    """One model in an inference child, which is restarted when it ends.

    Requests that a child had when it ended are given to the next one, each at most twice. `expected` are the speeds
    (prompt and completion tokens per second) to report until there are observed ones. `command` starts a child; tests
    replace it by children that misbehave.
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
        limits = limits or ChildLimits()
        self._spec = spec
        self._speed = Speed(expected)
        self._pending = PendingRequests(limits.requeues)
        self._supervisor = Supervisor(spec, clock, limits, command, self._pending, self._speed.observe)

    async def start(self) -> None:
        """Returns at once; the model loads meanwhile. Raises WireError if the spec's options are not JSON."""
        await self._supervisor.start()

    async def close(self) -> None:
        """Ends the child. Requests without an answer fail with EngineFailedError."""
        await self._supervisor.close()

    async def generate(
        self, request: GenerationRequest, on_progress: Callable[[Progress], None] | None = None
    ) -> Generation:
        """Answers a request; waits for the model to load and for a slot. Cancelling the caller cancels the request.

        `on_progress` is called a few times a second at most. Raises PromptError if this model can never answer
        this prompt, ParameterError if not with these parameters, ModelError if the model cannot be loaded, and
        EngineFailedError if the engine failed for good.
        """
        if request.model != self._spec.model:
            raise ModelError(f"this engine runs {self._spec.model}, not {request.model}")
        supervisor = self._supervisor
        if supervisor.state in ("failed", "stopped"):
            raise supervisor.failure
        job = self._pending.add(request, on_progress)
        if (child := supervisor.ready_child) is not None:
            self._pending.send(job, child)
        supervisor.wake()
        try:
            return await job.answer
        finally:
            supervisor.answered()
            # If the caller was cancelled, the child has to be told.
            if self._pending.leave(job) and supervisor.child is not None:
                supervisor.child.send(Cancel(job.key))

    async def score(self, request: ScoreRequest) -> tuple[int, ...]:
        """The ranks of an answer's tokens, and of ending after it (see `Scored`). Waits for the model to load.

        Never tried again: an answer that crashes the child must not do so twice. Raises EngineError.
        """
        child = await self._supervisor.child_when_ready()
        try:
            return await self._pending.score(request, child)
        finally:
            self._supervisor.answered()

    @property
    def follows_schemas(self) -> bool:
        """Whether answers can be made to follow a JSON schema."""
        return self._spec.engine in SCHEMA_ENGINES

    @property
    def counted(self) -> Beat:
        """The tokens that the child has computed since its start, as of its last beat."""
        return self._speed.counted

    @property
    def slots(self) -> int:
        """How many requests run at once."""
        return self._spec.slots

    @property
    def model(self) -> ModelInfo | None:
        """The model, once it is known."""
        return self._supervisor.model

    @property
    def state(self) -> EngineState:
        """The `state` of `EngineStatus` alone, which is read for every job."""
        return self._supervisor.state

    def watch(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Calls `listener` whenever `state` has changed, until the returned function is called."""
        return self._supervisor.watch(listener)

    def status(self) -> EngineStatus:
        """The state of the engine now."""
        supervisor = self._supervisor
        failure = supervisor.failure if supervisor.state == "failed" else None
        hint = supervisor.hint if supervisor.state == "loading" else ""
        return EngineStatus(
            state=supervisor.state,
            model=supervisor.model,
            active=len(self._pending),
            slots=self._spec.slots,
            restarts=supervisor.restarts,
            tokens_in_per_s=self._speed.prompt_per_s,
            tokens_out_per_s=self._speed.completion_per_s,
            reason=supervisor.reason,
            failure="" if failure is None else str(failure),
            hint=hint if failure is None else failure.hint,
            pid=supervisor.child.pid if supervisor.child is not None else None,
        )
