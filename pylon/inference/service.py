"""What the node sees of a model: ask it, and it answers, whatever becomes of the process that it lives in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pylon.clock import Clock
from pylon.errors import ModelError
from pylon.inference.child.in_hand import InHand
from pylon.inference.child.messages import Beat, Cancel
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
    """`active` counts the requests in hand, waiting ones included; `reason` says why the last child ended, `failure`
    why there is none where the state is `failed`, and `hint` what to do about that, or while it is `loading`.

    `unloaded` is a model that nobody asked for lately: the next request loads it again.
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
    """`command` is how a child is started: the seam for tests of children that misbehave.

    What a child had in hand when it ended is given to the next one, twice at the most for each request. `expected`
    are speeds (prompt and completion tokens per second) to name until there are observed ones.
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
        self._hand = InHand(limits.requeues)
        self._supervisor = Supervisor(spec, clock, limits, command, self._hand, self._speed.observe)

    async def start(self) -> None:
        """Returns at once; the model loads meanwhile. Raises WireError when the spec's options are no JSON."""
        await self._supervisor.start()

    async def close(self) -> None:
        """Ends the child. What is still in hand fails with EngineFailedError."""
        await self._supervisor.close()

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
        supervisor = self._supervisor
        if supervisor.state in ("failed", "stopped"):
            raise supervisor.failure
        job = self._hand.add(request, on_progress)
        if (child := supervisor.ready_child) is not None:
            self._hand.send(job, child)
        supervisor.wake()
        try:
            return await job.answer
        finally:
            supervisor.answered()
            # Where the caller went away, the child does not know it yet.
            if self._hand.leave(job) and supervisor.child is not None:
                supervisor.child.send(Cancel(job.key))

    async def score(self, request: ScoreRequest) -> tuple[int, ...]:
        """The ranks of an answer's tokens, and of ending after it (see `Scored`). Waits until the model is there.

        Nothing is tried again: an answer that takes the child down must not do so twice. Raises EngineError.
        """
        child = await self._supervisor.child_when_ready()
        try:
            return await self._hand.score(request, child)
        finally:
            self._supervisor.answered()

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
        return self._supervisor.model

    @property
    def state(self) -> EngineState:
        """See `EngineStatus`; asked for every job."""
        return self._supervisor.state

    def watch(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Calls the listener whenever `state` has changed, until what this gives is called."""
        return self._supervisor.watch(listener)

    def status(self) -> EngineStatus:
        supervisor = self._supervisor
        failure = supervisor.failure if supervisor.state == "failed" else None
        hint = supervisor.hint if supervisor.state == "loading" else ""
        return EngineStatus(
            state=supervisor.state,
            model=supervisor.model,
            active=len(self._hand),
            slots=self._spec.slots,
            restarts=supervisor.restarts,
            tokens_in_per_s=self._speed.prompt_per_s,
            tokens_out_per_s=self._speed.completion_per_s,
            reason=supervisor.reason,
            failure="" if failure is None else str(failure),
            hint=hint if failure is None else failure.hint,
            pid=supervisor.child.pid if supervisor.child is not None else None,
        )
