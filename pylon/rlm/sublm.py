"""The sub-LM, which answers sub-calls: many prompts in, an outcome for each as it comes.

`SubLM` is the interface. `pylon.node.rlm.sublm` asks the swarm over the control socket, `replay.RecordedSubLM`
answers from a trajectory, and `FunctionSubLM` here is a function.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, cast

from pylon.errors import UsageError
from pylon.rlm.charges import Charge
from pylon.rlm.root import Message
from pylon.unsettled import CameTo, Teller

_FAULT_CHARS = 500


@dataclass(frozen=True, slots=True)
class Job:
    """One question: a prompt, or a chat in `messages`. `most_msat` is the most it may cost, `timeout_s` the longest
    it may take; with `model` None any model may answer."""

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
    """An answer. Times are in ms, as in `pylon.swarm.job.Answer`; `verified` names the checks that it passed.

    `request_id` and `result_id` are the ids of the two Nostr events, 64 hex digits, or empty. `finish` is why
    the text ended (`stop`, `length`, `size`), None if unknown; `sha256` is the hash of the weights, empty if unknown.
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
    """Why there is no answer: `code` for programs, `message` for people."""

    code: str
    message: str
    attempts: int = 0


type SubOutcome = SubAnswer | SubFailure


# What an ask yields: the place and outcome of a job, or a report of its cost.
type Came = tuple[int, SubOutcome] | Charge


@dataclass(frozen=True, slots=True)
class SubModels:
    """The models that would answer now: their ids, the window in tokens that prompts should fit (0: unknown), the
    number of slots that have this window, and the known hashes of the models' weights."""

    models: tuple[str, ...]
    context_tokens: int
    width: int
    weights: tuple[str, ...] = ()


class SubLM(Teller, Protocol):
    """Answers sub-calls. `name` is its name in the trajectory."""

    name: str

    async def describe(self, model: str | None) -> SubModels:
        """The models available now: this one, or with None any. Raises `UnreachableError` when there are none."""

    def most_msat(self, job: Job) -> int:
        """The most that this job can cost, by the prices known when `describe` was last called."""

    def ask(self, jobs: Sequence[Job], *, budget_msat: int | None = None) -> AsyncIterator[Came]:
        """Asks jobs. Yields each job's place and outcome, in the order in which they come, and an `ExtraCharge`
        before the outcomes with which it became known. All together never cost more than `budget_msat`; None is no
        bound. Closing the iterator cancels the rest. An ask that may still be charged after it has ended yields
        `Reserved` first and `OpenCharge` last."""


# A function from prompt to answer, possibly a coroutine. A `SubFailure` is a failed call.
type Answering = Callable[[str], str | SubFailure] | Callable[[str], Awaitable[str | SubFailure]]


class FunctionSubLM:
    """A sub-LM that is a function: a model of the caller's, or a stand-in for tests and offline benchmarks.

    The function may be a coroutine; then all jobs run at once. Otherwise up to `models.width` of them run in threads,
    and those that are running when the run is ended run to their end. If the function raises, or returns something
    other than text, that call alone fails.
    """

    def __init__(
        self,
        answer: Answering,
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
        threads = ThreadPoolExecutor(max(1, min(len(jobs), self.models.width)), "sub-calls")
        tasks = [asyncio.ensure_future(self._one(threads, place, job)) for place, job in enumerate(jobs)]
        try:
            for done in asyncio.as_completed(tasks):
                yield await done
        finally:
            for task in tasks:
                task.cancel()
            threads.shutdown(wait=False, cancel_futures=True)

    async def came_to(self, names: Sequence[str]) -> Mapping[str, CameTo | None]:
        """See `SubLM`. A function charges nothing after its answer."""
        return dict.fromkeys(names)

    async def _one(self, threads: Executor, place: int, job: Job) -> tuple[int, SubOutcome]:
        try:
            text = await self._called(threads, job.prompt or job.messages[-1].content)
        except Exception as error:
            said = str(error).encode("utf-8", "replace").decode()[:_FAULT_CHARS]
            return place, SubFailure("failed", f"the function failed ({type(error).__name__}): {said}", 1)
        if isinstance(text, SubFailure):
            return place, text
        if not isinstance(text, str):
            return place, SubFailure("failed", f"the function returned {type(text).__name__}, not text", 1)
        asked = len(job.prompt) // 4
        return place, SubAnswer(text, self.name, self.name, asked, len(text) // 4, self._msat, verified=("none",))

    async def _called(self, threads: Executor, prompt: str) -> object:
        if inspect.iscoroutinefunction(self._answer):
            return await self._answer(prompt)
        made = await asyncio.get_running_loop().run_in_executor(threads, self._answer, prompt)
        return await made if inspect.isawaitable(made) else made


def sub_lm(sub: object) -> SubLM:
    """Makes a `SubLM` of what a program passed as one: a `SubLM` or a function. Raises `UsageError`."""
    if all(hasattr(sub, name) for name in ("ask", "describe", "most_msat", "came_to", "name")):
        return cast("SubLM", sub)
    if callable(sub):
        return FunctionSubLM(cast("Answering", sub))
    raise UsageError(
        f"{type(sub).__name__} is not a sub-model",
        hint="Give a function from prompt to answer, or an object with the methods of `SubLM`.",
    )
