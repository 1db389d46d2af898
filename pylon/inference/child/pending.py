"""What was asked of the model and is not answered yet: it outlives the children that work on it."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

from pylon.errors import EngineError, EngineFailedError, ParameterError, PromptError, WireError
from pylon.frames import encode
from pylon.inference.child.messages import Compiling, Generate, Score
from pylon.inference.child.process import ChildProcess
from pylon.inference.engine import (
    Failed,
    Finished,
    Generation,
    GenerationRequest,
    Progress,
    Scored,
    ScoreRequest,
)

_FAILURES: dict[str, type[EngineError]] = {
    "prompt": PromptError,
    "parameter": ParameterError,
    "engine": EngineFailedError,
}

_HINT = "To limit the memory used, set `inference.memory_gb` and `inference.slots`."

type Ranks = tuple[int, ...]


@dataclass(slots=True, eq=False)
class Job:
    """A request of one caller, who waits for `answer`. `deaths` counts the children that died under it."""

    key: str
    frame: bytes
    on_progress: Callable[[Progress], None] | None
    answer: asyncio.Future[Generation]
    request_id: str
    sent: bool = False
    deaths: int = 0


class InHand:
    """The requests and scorings that no child has answered yet, by the keys that children know them by.

    `requeues` is how often a request is given to another child after one died under it.
    """

    def __init__(self, requeues: int) -> None:
        self._requeues = requeues
        self._keys = itertools.count(1)
        self._jobs: dict[str, Job] = {}
        self._scores: dict[str, asyncio.Future[Ranks]] = {}
        self._compiling: str | None = None  # the request whose schema the child compiles

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def idle(self) -> bool:
        """Whether nobody waits for anything."""
        return not self._jobs and not self._scores

    def add(self, request: GenerationRequest, on_progress: Callable[[Progress], None] | None) -> Job:
        """Raises PromptError when it cannot be told to a child."""
        key = str(next(self._keys))  # ours, so that two callers with the same id never meet in the child
        try:
            asked = (request.messages, request.sampling, request.model, request.customer)
            frame = encode(Generate(GenerationRequest(key, *asked, stream=on_progress is not None)))
        except WireError as error:
            raise PromptError(f"The prompt cannot be given to the engine: {error}") from None
        job = Job(key, frame, on_progress, asyncio.get_running_loop().create_future(), request.id)
        self._jobs[key] = job
        return job

    def send(self, job: Job, child: ChildProcess) -> None:
        job.sent = True
        child.send_frame(job.frame)

    def send_all(self, child: ChildProcess) -> None:
        """To a child that has just become ready."""
        for job in self._jobs.values():
            self.send(job, child)

    def leave(self, job: Job) -> bool:
        """Its caller waits no longer; whether a child may still be at it."""
        return self._jobs.pop(job.key, None) is not None and job.sent

    async def score(self, request: ScoreRequest, child: ChildProcess) -> Ranks:
        """Asks this child and no other: an answer that takes it down must not do so twice. Raises EngineError."""
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

    def take(self, message: Compiling | Progress | Finished | Scored | Failed) -> None:
        """What a child says about one of them."""
        match message:
            case Compiling():
                self._compiling = message.id
            case Progress():
                self._progress(message)
            case Finished():
                if (finished := self._let_go(message.id)) is not None:
                    finished.answer.set_result(message.generation)
            case Scored():
                if (scored := self._scores.get(message.id)) is not None and not scored.done():
                    scored.set_result(message.ranks)
            case Failed():
                self._failed(message)

    def child_ended(self, reason: str) -> None:
        """What only that child could have done fails."""
        for scored in self._scores.values():
            if not scored.done():
                scored.set_exception(EngineFailedError(f"The model's process {reason}."))

    def requeue(self, reason: str) -> None:
        """All that the dead child had waits for the next one, or fails when too many died under it.

        Where it was compiling a JSON schema, that is what it died of: no other child gets that request, and it
        counts for none of the others.
        """
        compiled, self._compiling = self._compiling, None
        if compiled is not None:
            self._end(compiled, f"The model's process {reason} while it compiled this request's JSON schema.")
        for key, job in list(self._jobs.items()):
            if not job.sent or job.answer.done():
                continue
            job.sent = False
            job.deaths += compiled is None
            if job.deaths > self._requeues:
                self._end(key, f"The model's process {reason} while it worked on this request, {job.deaths} times.")

    def fail_all(self, failure: EngineError) -> None:
        for key, job in list(self._jobs.items()):
            if not job.answer.done():
                del self._jobs[key]
                job.answer.set_exception(type(failure)(str(failure), hint=failure.hint))

    def _progress(self, progress: Progress) -> None:
        job = self._jobs.get(progress.id)
        if job is None or job.on_progress is None or job.answer.done():
            return
        try:
            job.on_progress(replace(progress, id=job.request_id))
        except Exception as error:  # the caller's own fault goes back to the caller, and to nobody else
            job.answer.set_exception(error)

    def _failed(self, failed: Failed) -> None:
        error = _FAILURES[failed.error](failed.message, hint=failed.hint)
        if (scored := self._scores.get(failed.id)) is not None:
            if not scored.done():
                scored.set_exception(error)
        elif (job := self._let_go(failed.id)) is not None:
            job.answer.set_exception(error)

    def _end(self, key: str, text: str) -> None:
        """It fails with the child, unless its caller went away before."""
        if (job := self._let_go(key)) is not None:
            job.answer.set_exception(EngineFailedError(text, hint=_HINT))

    def _let_go(self, key: str) -> Job | None:
        """Takes an answered request off the list, unless its caller went away before."""
        job = self._jobs.get(key)
        if job is None or job.answer.done():
            return None
        return self._jobs.pop(key)
