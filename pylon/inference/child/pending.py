"""The requests to the model that have no answer yet. They outlive the children that work on them."""

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
class PendingRequest:
    """A request whose caller waits for `answer`. `deaths` counts the children that ended while they worked on it."""

    key: str
    frame: bytes
    on_progress: Callable[[Progress], None] | None
    answer: asyncio.Future[Generation]
    request_id: str
    sent: bool = False
    deaths: int = 0


class PendingRequests:
    """All requests and scorings without an answer, by the key under which children know them.

    `requeues` is how often a request is given to another child after one ended while working on it.
    """

    def __init__(self, requeues: int) -> None:
        self._requeues = requeues
        self._keys = itertools.count(1)
        self._jobs: dict[str, PendingRequest] = {}
        self._scores: dict[str, asyncio.Future[Ranks]] = {}
        self._compiling: str | None = None  # the request whose schema the child compiles

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def idle(self) -> bool:
        """Whether no request and no scoring is pending."""
        return not self._jobs and not self._scores

    def add(self, request: GenerationRequest, on_progress: Callable[[Progress], None] | None) -> PendingRequest:
        """Adds a request. Raises PromptError if it is too large to send to a child."""
        key = str(next(self._keys))  # ours, so that two callers with the same id never meet in the child
        try:
            asked = (request.messages, request.sampling, request.model, request.customer)
            frame = encode(Generate(GenerationRequest(key, *asked, stream=on_progress is not None)))
        except WireError as error:
            raise PromptError(f"the prompt cannot be given to the engine: {error}") from None
        job = PendingRequest(key, frame, on_progress, asyncio.get_running_loop().create_future(), request.id)
        self._jobs[key] = job
        return job

    def send(self, job: PendingRequest, child: ChildProcess) -> None:
        """Sends a request to a child that is ready."""
        job.sent = True
        child.send_frame(job.frame)

    def send_all(self, child: ChildProcess) -> None:
        """Sends all requests to a child that has just become ready."""
        for job in self._jobs.values():
            self.send(job, child)

    def leave(self, job: PendingRequest) -> bool:
        """Drops a request whose caller no longer waits; whether a child may still be working on it."""
        return self._jobs.pop(job.key, None) is not None and job.sent

    async def score(self, request: ScoreRequest, child: ChildProcess) -> Ranks:
        """Has this child rank an answer, and no other after it: it must not crash two. Raises EngineError."""
        key = str(next(self._keys))
        try:
            frame = encode(Score(replace(request, id=key)))
        except WireError as error:
            raise PromptError(f"the answer cannot be given to the engine: {error}") from None
        self._scores[key] = asyncio.get_running_loop().create_future()
        child.send_frame(frame)
        try:
            return await self._scores[key]
        finally:
            del self._scores[key]

    def take(self, message: Compiling | Progress | Finished | Scored | Failed) -> None:
        """Takes a message of a child about a request or scoring."""
        match message:
            case Compiling():
                self._compiling = message.id
            case Progress():
                self._progress(message)
            case Finished():
                if (finished := self._remove(message.id)) is not None:
                    finished.answer.set_result(message.generation)
            case Scored():
                if (scored := self._scores.get(message.id)) is not None and not scored.done():
                    scored.set_result(message.ranks)
            case Failed():
                self._failed(message)

    def child_ended(self, reason: str) -> None:
        """Fails the scorings, which no other child gets."""
        for scored in self._scores.values():
            if not scored.done():
                scored.set_exception(EngineFailedError(f"the model's process {reason}"))

    def requeue(self, reason: str) -> None:
        """Keeps the requests of a child that ended for the next one; fails those that too many children ended with.

        If it was compiling a JSON schema, that was the cause: only that request fails, and the others do not count
        this end.
        """
        compiled, self._compiling = self._compiling, None
        if compiled is not None:
            self._end(compiled, f"the model's process {reason} while it compiled this request's JSON schema")
        for key, job in list(self._jobs.items()):
            if not job.sent or job.answer.done():
                continue
            job.sent = False
            job.deaths += compiled is None
            if job.deaths > self._requeues:
                self._end(key, f"the model's process {reason} while it worked on this request, {job.deaths} times")

    def fail_all(self, failure: EngineError) -> None:
        """Fails all requests with a copy of this error."""
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
        elif (job := self._remove(failed.id)) is not None:
            job.answer.set_exception(error)

    def _end(self, key: str, text: str) -> None:
        """Fails a request, unless its caller no longer waits."""
        if (job := self._remove(key)) is not None:
            job.answer.set_exception(EngineFailedError(text, hint=_HINT))

    def _remove(self, key: str) -> PendingRequest | None:
        """Removes and returns a request; None if its caller no longer waits."""
        job = self._jobs.get(key)
        if job is None or job.answer.done():
            return None
        return self._jobs.pop(key)
