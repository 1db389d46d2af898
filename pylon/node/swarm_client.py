"""The swarm for asynchronous programs, asked through a home: with its key, its relays, its money and its journal.

    async with NodeSwarmClient() as swarm:
        outcomes = await swarm.map(prompts, budget_msat=50_000, journal=True)

`swarm_blocking` is the same for scripts and notebooks; `pylon.swarm.client` needs no home, and pays nothing.
"""

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import fields
from pathlib import Path
from typing import Any

from pylon.errors import UnreachableError
from pylon.node.calls.control import Event, result_of
from pylon.node.home_client import HomeClient
from pylon.node.outcomes import outcome_of
from pylon.swarm.dispatch.moves import Failure
from pylon.swarm.job import Answer, JobSpec, Outcome, Progress
from pylon.swarm.runs.asked import check_bounds, spec_of

# What a job does not say is left to the home's settings.
_UNSAID = {field.name: field.default for field in fields(JobSpec)}


class NodeSwarmClient(HomeClient):
    """See `HomeClient`. What its jobs cost is paid from the home's wallet, within the settings of `[customer]`."""

    def __init__(self, home: Path | str | None = None) -> None:
        super().__init__(home, "swarm")

    async def complete(self, job: JobSpec | str, *, budget_msat: int | None = None, **parameters: Any) -> Answer:
        """The answer to one question, as `SwarmClient.complete` gives it, for `budget_msat` at the most in all."""
        check_bounds(None, budget_msat, 0)
        row = await result_of(self._node, "ask", {"job": _job(job, parameters), "budget_msat": budget_msat})
        return _answer(row)

    async def stream(
        self, job: JobSpec | str, *, budget_msat: int | None = None, **parameters: Any
    ) -> AsyncGenerator[str | Answer]:
        """The answer to one question while it is made, as `SwarmClient.stream` gives it: the whole text so far, again
        and again, then the `Answer`. Whoever leaves it takes the question back."""
        check_bounds(None, budget_msat, 0)
        params = {"job": _job(job, parameters), "budget_msat": budget_msat, "stream": True}
        async with aclosing(self._node.call("ask", params)) as told:
            async for each in told:
                if not isinstance(each, Event):
                    yield _answer(each.data)
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

        With `journal` the run is written down, so that the same questions, asked once more with `resume`, go on where
        it ended: nothing that was answered is asked or paid again. Where nothing was asked before, `resume` begins.
        `pin_weights` has all answered by the weights that most run. Raises `UnreachableError` when nobody could take
        a single one or the node ends meanwhile, and what one of these functions raises. Cancelling it cancels the
        jobs.
        """
        check_bounds(deadline_s, budget_msat, priority)
        rows = [_job(job, {}) for job in jobs]
        outcomes: list[Outcome] = []
        came: dict[int, Outcome] = {}
        params = {
            "jobs": rows,
            "deadline_s": deadline_s,
            "budget_msat": budget_msat,
            "priority": priority,
            "journal": journal,
            "resume": resume,
            "pin_weights": pin_weights,
            "stream": on_outcome is not None,
        }
        async with aclosing(self._node.call("map", params)) as told:
            async for each in told:
                if not isinstance(each, Event):
                    outcomes = [outcome_of(row) for row in each.data.get("outcomes", ())]
                    continue
                for row in each.data.get("outcomes", ()):
                    came[row["index"]] = outcome = outcome_of(row)
                    if on_outcome is not None:
                        on_outcome(row["index"], outcome)
                if on_progress is not None:
                    on_progress(_progress(len(rows), each.data))
        return outcomes or [came[place] for place in range(len(came))]

    async def providers(self, **wanted: Any) -> list[dict[str, Any]]:
        """Who is alive: the rows of `pylon providers --json`. `wanted` are the filters of the `providers` call."""
        seen = await result_of(self._node, "providers", wanted)
        return list(seen["providers"])


def _job(job: JobSpec | str, parameters: dict[str, Any]) -> dict[str, Any]:
    spec = spec_of(job, parameters)
    said = {name: getattr(spec, name) for name in _UNSAID}
    return {name: value for name, value in said.items() if name == "prompt" or value != _UNSAID[name]}


def _answer(row: dict[str, Any]) -> Answer:
    outcome = outcome_of(row)
    if isinstance(outcome, Answer):
        return outcome
    if outcome.reason is Failure.NO_PROVIDER:
        raise UnreachableError(str(outcome), hint=outcome.hint)
    raise outcome


def _progress(total: int, told: dict[str, Any]) -> Progress:
    done, failed = told["done"], told["failed"]
    return Progress(total, done - failed, failed, told["in_flight"], told["msat"])
