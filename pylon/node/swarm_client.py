"""The swarm for asynchronous programs, asked through a home: with its key, its relays, its money and its journal.

    async with NodeSwarmClient() as swarm:
        outcomes = await swarm.map(prompts, budget_msat=50_000, journal=True)

`swarm_blocking` is the same for scripts and notebooks; `pylon.swarm.client` needs no home, and pays nothing.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import fields
from pathlib import Path
from typing import Any

import orjson

from pylon.errors import UnreachableError
from pylon.node.calls.protocol import Event, Result, result_of
from pylon.node.home_client import HomeClient
from pylon.node.outcomes import outcome_of
from pylon.swarm.dispatch.messages import Failure
from pylon.swarm.job import Answer, JobFailed, JobSpec, Outcome, Progress
from pylon.swarm.runs.callbacks import call, check_callbacks
from pylon.swarm.runs.question_checks import LONGEST_S, check_bounds, check_jobs, malformed, spec_of, unaskable

_UNSAID = {field.name: field.default for field in fields(JobSpec)}


class NodeSwarmClient(HomeClient):
    """See `HomeClient`. Jobs are paid from the home's wallet, as the settings in `[customer]` allow."""

    def __init__(self, home: Path | str | None = None) -> None:
        super().__init__(home, "swarm")

    async def complete(self, job: JobSpec | str = "", *, budget_msat: int | None = None, **parameters: Any) -> Answer:
        """The answer to one question, as `SwarmClient.complete` gives it, for at most `budget_msat` in all."""
        row = await result_of(self._node, "ask", _single(job, parameters, budget_msat))
        return _answer(outcome_of(row))

    async def stream(
        self, job: JobSpec | str = "", *, budget_msat: int | None = None, **parameters: Any
    ) -> AsyncGenerator[str | Answer]:
        """The answer to one question as it grows, as `SwarmClient.stream` gives it: the whole text so far, again and
        again, then the `Answer`. Closing the iterator cancels the question."""
        params = {**_single(job, parameters, budget_msat), "stream": True}
        async with aclosing(self._node.call("ask", params)) as told:
            async for each in told:
                if not isinstance(each, Event):
                    yield _answer(outcome_of(each.data))
                elif "text" in each.data:
                    yield each.data["text"]

    async def map(
        self,
        jobs: Iterable[JobSpec | str],
        *,
        on_progress: Callable[[Progress], None] | None = None,
        on_outcome: Callable[[int, Outcome], None] | None = None,
        deadline_s: float | None = None,
        budget_msat: int | None = None,
        priority: int = 0,
        journal: bool = False,
        resume: bool = False,
        pin_weights: bool = False,
    ) -> list[Outcome]:
        """The outcomes of many questions, in their order, as `SwarmClient.map` gives them.

        With `journal` the run is recorded. If the same questions are asked again with `resume`, the run goes on where
        it ended: what was answered is neither asked nor paid again. Without such a record, `resume` begins a new run.
        `pin_weights` has all questions answered by the same weights, those that most slots have.

        Raises `UnreachableError` if nobody could take any question or the node ends meanwhile, and what `on_progress`
        or `on_outcome` raises. Cancelling it cancels the jobs.
        """
        check_jobs(jobs)
        check_bounds(deadline_s, budget_msat, priority)
        check_callbacks(on_progress=on_progress, on_outcome=on_outcome)
        asked = _Asked([spec_of(job, {}) for job in jobs], on_progress, on_outcome)
        params = {
            "jobs": asked.rows,
            "deadline_s": None if deadline_s is None else min(deadline_s, LONGEST_S),
            "budget_msat": None if budget_msat is None else int(budget_msat),
            "priority": priority,
            "journal": journal,
            "resume": resume,
            "pin_weights": pin_weights,
            "stream": on_outcome is not None,
        }
        asked.begin()
        if asked.rows:
            async with aclosing(self._node.call("map", params)) as told:
                async for each in told:
                    asked.hear(each)
        return asked.outcomes()

    async def providers(
        self,
        *,
        model: str | None = None,
        free: bool = False,
        most_msat: int | None = None,
        network: str | None = None,
        context: int = 0,
        trust: float = 0.0,
        wait_s: float = 2.0,
    ) -> list[dict[str, Any]]:
        """The providers that are alive after listening for `wait_s` seconds, as rows of `pylon providers --json`.

        Filters: `model` (an id or `sha256:…`), `free`, `most_msat` (highest base price), `network`, `context` (least
        window in tokens), `trust` (least trust, 0 to 1).
        """
        wanted = {"model": model, "free": free, "most_msat": most_msat, "network": network, "context": context}
        seen = await result_of(self._node, "providers", {**wanted, "trust": trust, "wait_s": wait_s})
        return list(seen["providers"])


class _Asked:
    """The questions of one map: the rows to send to the node, and the outcomes of all by place. Questions that no
    provider could be asked are not sent."""

    def __init__(
        self,
        specs: Sequence[JobSpec],
        on_progress: Callable[[Progress], None] | None,
        on_outcome: Callable[[int, Outcome], None] | None,
    ) -> None:
        self.rows: list[dict[str, Any]] = []
        self._on_progress = on_progress
        self._on_outcome = on_outcome
        # The outcomes by place, and the place of each row.
        self._came: dict[int, Outcome] = {}
        self._places: list[int] = []
        for place, spec in enumerate(specs):
            row = _row(spec)
            if isinstance(row, JobFailed):
                self._came[place] = row
            else:
                self.rows.append(row)
                self._places.append(place)
        self._failed = len(self._came)

    def begin(self) -> None:
        """Reports the questions that are not sent."""
        if self._on_outcome is not None:
            for place, outcome in self._came.items():
                call(self._on_outcome, place, outcome)
        if self._on_progress is not None and not self.rows:
            call(self._on_progress, Progress(self._failed, 0, self._failed, 0))

    def hear(self, told: Event | Result) -> None:
        """Takes an event or the result of the call, and reports what is new in it."""
        for row in told.data.get("outcomes", ()):
            place = self._places[row["index"]]
            self._came[place] = outcome = outcome_of(row)
            if self._on_outcome is not None:
                call(self._on_outcome, place, outcome)
        if self._on_progress is not None and isinstance(told, Event) and "done" in told.data:
            done, failed = told.data["done"], told.data["failed"]
            total = len(self.rows) + self._failed
            now = Progress(
                total, done - failed, failed + self._failed, told.data["in_flight"], told.data["paid_msat"]
            )
            call(self._on_progress, now)

    def outcomes(self) -> list[Outcome]:
        """All of them, in order."""
        return [self._came[place] for place in range(len(self._came))]


def _single(job: JobSpec | str, parameters: dict[str, Any], budget_msat: int | None) -> dict[str, Any]:
    check_bounds(None, budget_msat, 0)
    row = _row(spec_of(job, parameters))
    if isinstance(row, JobFailed):
        raise row
    return {"job": row, "budget_msat": None if budget_msat is None else int(budget_msat)}


def _row(spec: JobSpec) -> dict[str, Any] | JobFailed:
    """A job as a row of a call, or why nobody can be asked it. Fields with their defaults are left out, so that the
    home's settings apply to them."""
    # With `plain`, so that only jobs count as unaskable that are so whatever the home's settings are.
    if failure := unaskable(spec, plain=True):
        return failure
    said = {name: getattr(spec, name) for name in _UNSAID}
    row = {name: value for name, value in said.items() if name == "prompt" or value != _UNSAID[name]}
    try:
        orjson.dumps(row)
    except TypeError as error:
        # Such as a lone surrogate, an integer over 64 bits, or a schema with a value that JSON lacks.
        return malformed(f"it cannot be written as JSON: {error}")
    return row


def _answer(outcome: Outcome) -> Answer:
    if isinstance(outcome, Answer):
        return outcome
    if outcome.reason is Failure.NO_PROVIDER:
        raise UnreachableError(str(outcome), hint=outcome.hint)
    raise outcome
