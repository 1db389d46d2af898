"""The sub-LM: many prompts in, an outcome each as they come. The swarm stands behind it, or a stand-in that says so.

`pylon.node.rlm.sublm` asks the swarm over the control socket; `replay.RecordedSubLM` answers from a trajectory.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pylon.rlm.charges import Charge
from pylon.rlm.root import Message
from pylon.unsettled import CameTo, Teller


@dataclass(frozen=True, slots=True)
class Job:
    """One question: a prompt, or a chat in its place. `most_msat` is what it may cost, `timeout_s` how long it may
    take; `model` None lets any model answer."""

    prompt: str
    messages: tuple[Message, ...] = ()
    model: str | None = None
    max_tokens: int = 256
    temperature: float = 0.0
    timeout_s: float = 120.0
    most_msat: int = 0
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class SubAnswer:
    """What came back. Times in ms as in `pylon.swarm.job.Answer`; `verified` names the checks that it passed.

    `request_id` and `result_id` are the ids of the two events, 64 hex digits, where there are such. `finish` is why
    it ended (`stop`, `length`, `size`), None where nobody said; `sha256` is the hash of the weights, empty likewise.
    """

    text: str
    provider: str
    model: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    msat: int = 0
    queue_ms: int = 0
    run_ms: int = 0
    latency_ms: int = 0
    attempts: int = 1
    verified: tuple[str, ...] = ()
    request_id: str = ""
    result_id: str = ""
    finish: str | None = None
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class SubFailure:
    """Why there is no answer: a word for programs, a sentence for people."""

    code: str
    message: str
    attempts: int = 0


type SubOutcome = SubAnswer | SubFailure


type Came = tuple[int, SubOutcome] | Charge


@dataclass(frozen=True, slots=True)
class SubModels:
    """Who would answer now: model ids, the window in tokens that prompts are cut to (0: unknown), the slots that have
    it, and the hashes of the weights of those models, as far as they are told."""

    models: tuple[str, ...]
    context_tokens: int
    width: int
    weights: tuple[str, ...] = ()


class SubLM(Teller, Protocol):
    """Where sub-calls go. `name` says for the trajectory what it is."""

    name: str

    async def describe(self, model: str | None) -> SubModels:
        """Who is there for that model, or for any. Raises `UnreachableError` when nobody is."""

    def most_msat(self, job: Job) -> int:
        """What this job can cost at most, by the prices known when `describe` was last called."""

    def ask(self, jobs: Sequence[Job], *, budget_msat: int | None = None) -> AsyncIterator[Came]:
        """Each job's place and outcome, in the order in which they come; what was charged beside them before the
        outcomes with which it became known. All of it together never costs more than `budget_msat`; None is no
        bound. Closing the iterator cancels the rest. Where it may still be charged once it is over it tells
        `Reserved` first, and `Open` when it is whole."""


class FunctionSubLM:
    """A sub-LM that is no model: a function from prompt to answer, for tests and offline benchmarks.

    The function may be a coroutine; `SubFailure` as its result is a failed call. All jobs run at once.
    """

    def __init__(
        self,
        answer: Callable[[str], str | SubFailure] | Callable[[str], Awaitable[str | SubFailure]],
        *,
        name: str = "function",
        msat: int = 0,
        most_msat: int = 0,
        models: SubModels | None = None,
    ) -> None:
        self.name = name
        self.models = models or SubModels((name,), 32_768, 64)
        self.jobs: list[Job] = []
        self._answer = answer
        self._msat = msat
        self._most_msat = max(msat, most_msat)

    async def describe(self, model: str | None) -> SubModels:  # noqa: ARG002 - the seam's
        """See `SubLM`."""
        return self.models

    def most_msat(self, job: Job) -> int:  # noqa: ARG002 - the seam's
        """See `SubLM`."""
        return self._most_msat

    async def ask(
        self,
        jobs: Sequence[Job],
        *,
        budget_msat: int | None = None,  # noqa: ARG002 - the seam's
    ) -> AsyncIterator[Came]:
        """See `SubLM`."""
        self.jobs.extend(jobs)
        tasks = [asyncio.ensure_future(self._one(place, job)) for place, job in enumerate(jobs)]
        try:
            for done in asyncio.as_completed(tasks):
                yield await done
        finally:
            for task in tasks:
                task.cancel()

    async def came_to(self, names: Sequence[str]) -> Mapping[str, CameTo | None]:
        """See `SubLM`. A function is paid with its answer alone."""
        return dict.fromkeys(names)

    async def _one(self, place: int, job: Job) -> tuple[int, SubOutcome]:
        made = self._answer(job.prompt or job.messages[-1].content)
        text = made if isinstance(made, str | SubFailure) else await made
        if isinstance(text, SubFailure):
            return place, text
        asked = len(job.prompt) // 4
        return place, SubAnswer(text, self.name, self.name, asked, len(text) // 4, self._msat, verified=("none",))
