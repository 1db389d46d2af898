"""Replays a run without any model: the root's turns and the sub-calls' answers come from its trajectory.

The code runs again, in a REPL. So a replay shows what a change of the sandbox or of the loop does to a run, without
paying for it again, and whether its trajectory is true.
"""

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pylon.clock import Clock
from pylon.errors import UsageError
from pylon.rlm import prompts
from pylon.rlm.budget import Limits
from pylon.rlm.context import Context, FileFacts, file_facts
from pylon.rlm.loop_state import LoopOutcome
from pylon.rlm.recorded_run import outcome_of
from pylon.rlm.repl.protocol import CellLimits, ContextFile, ContextSource, Repl
from pylon.rlm.rlm import Rlm
from pylon.rlm.root import Charged, Message, Reply, RootError, unpaid
from pylon.rlm.run_events import Origin
from pylon.rlm.runs import Run
from pylon.rlm.settings import LoopSettings, SubSettings
from pylon.rlm.sublm import Came, Job, SubFailure, SubModels, SubOutcome
from pylon.rlm.trajectory import BLOBS, Event, Trajectory, text_ref
from pylon.unsettled import CameTo

# Recorded outcomes come at once, so no call needs a limit of time.
_UNBOUND_S = 1e9


class RecordedRoot:
    """A root that repeats the recorded turns of each loop."""

    most_msat = 0

    def __init__(self, run: Run, begun: Event) -> None:
        self.name = f"recorded:{begun['root']['name']}"
        self.context_tokens = begun["root"]["context_tokens"]
        self.max_tokens = 1
        self._run = run
        self._turns: defaultdict[str, deque[Event]] = defaultdict(deque)
        for event in run.events():
            if event["type"] == "turn":
                self._turns[event["loop"]].append(event)

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        loop: str = "",
        charged: Charged = unpaid,  # noqa: ARG002 - the seam's
    ) -> Reply:
        """See `Root`."""
        turns = self._turns[loop]
        if not turns or turns[0]["last"] != prompts.is_extraction(messages[-1].content):
            raise RootError("the recorded run has no such turn", lasting=False)
        event = turns.popleft()
        # Its tokens and its price were spent by the recorded run.
        return Reply(
            self._run.required_text(event["reply"], "a turn of the root"),
            0,
            0,
            event["model"],
            finish=event.get("finish"),
        )

    async def close(self) -> None:
        """See `Root`."""


class RecordedSubLM:
    """A sub-LM that repeats the recorded outcomes: for equal prompts to the same model, in the order in which they
    were asked; refused calls, which have no recorded model, come after those that were sent."""

    def __init__(self, run: Run, begun: Event) -> None:
        self.name = f"recorded:{begun['sub']['name']}"
        self._run = run
        self._models = SubModels(tuple(begun["sub"]["models"]), begun["sub"]["context_tokens"], begun["sub"]["width"])
        self._asked: defaultdict[tuple[str | None, str], deque[Event]] = defaultdict(deque)
        self._refused: defaultdict[str, deque[Event]] = defaultdict(deque)
        self._last: dict[tuple[str | None, str], Event] = {}
        submitted: dict[str, Event] = {}
        returned: dict[str, Event] = {}
        for event in run.events():
            if event["type"] == "submitted":
                submitted[event["call"]] = event
            elif event["type"] == "returned":
                returned[event["call"]] = event
        for call, event in submitted.items():
            if call in returned and event["kind"] == "llm":
                self._asked[event["model"], event["prompt"]["sha256"]].append(returned[call])
        for call, event in returned.items():
            if call not in submitted:
                self._refused[event["prompt"]["sha256"]].append(event)

    async def describe(self, model: str | None) -> SubModels:  # noqa: ARG002 - the seam's
        """See `SubLM`."""
        return self._models

    def most_msat(self, job: Job) -> int:  # noqa: ARG002 - the seam's
        """See `SubLM`."""
        return 0

    async def ask(
        self,
        jobs: Sequence[Job],
        *,
        budget_msat: int | None = None,  # noqa: ARG002 - the seam's
    ) -> AsyncIterator[Came]:
        """See `SubLM`."""
        for place, job in enumerate(jobs):
            yield place, self._outcome(job)

    async def came_to(self, names: Sequence[str]) -> Mapping[str, CameTo | None]:
        """See `SubLM`. A replay costs nothing."""
        return dict.fromkeys(names)

    def _outcome(self, job: Job) -> SubOutcome:
        sha256 = text_ref(job.prompt)["sha256"]
        key = (job.model, sha256)
        if known := self._asked[key] or self._refused[sha256]:
            self._last[key] = known.popleft()
        if (event := self._last.get(key)) is None:
            return SubFailure("not_recorded", "the recorded run has no such call")
        # If a prompt is asked more often than in the recorded run, the last outcome is repeated.
        outcome = outcome_of(self._run, event)
        # The recorded run has paid for it.
        return outcome if isinstance(outcome, SubFailure) else replace(outcome, msat=0, verified=("recorded",))


@dataclass(frozen=True, slots=True)
class Replayed:
    """The outcome of a replay. `recorded` is the answer of the recorded run; `same` tells whether both are equal.
    `ended` is False for a recorded run that never ended, which has no answer to compare."""

    outcome: LoopOutcome
    recorded: str | None
    same: bool
    ended: bool


async def replay(
    run: Run, open_repl: Callable[[], Repl], trajectory: Trajectory, clock: Clock, *, settings: LoopSettings
) -> Replayed:
    """Replays a run, with its number of turns and its limits of a cell. Raises `UsageError` if it never began, its
    context is gone, or a recorded text is missing or damaged."""
    begun, ended = _ends(run)
    question = _checked(run, begun)
    settings = replace(settings, turns=begun["turns"])
    if "cell" in begun:
        settings = replace(settings, cell=recorded_cell(run, begun))
    again = Rlm(
        RecordedRoot(run, begun), RecordedSubLM(run, begun), open_repl, trajectory, clock,
        settings=settings, sub_settings=_sub_settings(begun["sub"]),
    )  # fmt: skip
    limits = Limits(depth=begun["limits"]["depth"], prompt_chars=begun["limits"]["prompt_chars"])
    origin = Origin(begun["strategy"], replay_of=run.id)
    outcome = await again.run(question, recorded_context(run, begun), limits, origin=origin)
    came_to = None if outcome.answer is None else text_ref(outcome.answer)["sha256"]
    answer = None if ended is None else ended["answer"]
    recorded = None if answer is None else run.text(answer)
    # Compared by hash, for which the recorded text need not be kept.
    same = ended is not None and came_to == (answer and answer["sha256"])
    return Replayed(outcome, recorded, same, ended is not None)


def _ends(run: Run) -> tuple[Event, Event | None]:
    """The last `run` and `final` events; the latter is None if there is none. Raises `UsageError`."""
    begun = ended = None
    for event in run.checked_events():
        begun = event if event["type"] == "run" else begun
        ended = event if event["type"] == "final" else ended
    if begun is None:
        raise UsageError(f"run {run.id} ended before it began", hint="`pylon rlm list` shows the stored runs.")
    return begun, ended


def _checked(run: Run, begun: Event) -> str:
    """The question of a run, after checking that every text which the replay repeats is there: a missing one would
    otherwise appear as a failed call. Raises `UsageError`."""
    for event in run.events():
        if event["type"] == "turn":
            run.required_text(event["reply"], f"turn {event['turn']} of loop {event['loop']}")
        elif event["type"] == "returned" and "code" not in event:
            run.required_text(event["text"], f"the answer to {event['call']}")
    return run.required_text(begun["question"], "the question")


def recorded_cell(run: Run, begun: Event) -> CellLimits:
    """The limits of a cell that a run had. Raises `UsageError` if one of them is unknown to this version of Pylon,
    since the code may behave differently without it."""
    unknown = sorted(set(begun["cell"]) - {one.name for one in fields(CellLimits)})
    if unknown:
        raise UsageError(
            f"run {run.id} has cell limits that this version does not know: {', '.join(unknown)}",
            hint=f"It was made by Pylon {begun.get('version', 'of another version')}.",
        )
    return CellLimits(**begun["cell"])


def _sub_settings(sub: dict[str, Any]) -> SubSettings:
    return SubSettings(sub["model"], sub["max_tokens"], sub["temperature"], _UNBOUND_S)


def recorded_context(run: Run, begun: Event) -> Context:
    """The context of a run: the copy kept with it, or the original files if they are unchanged. Blocking. Raises
    `UsageError` if neither is there."""
    files: list[FileFacts] = []
    for file in begun["context"]["files"]:
        given, kept = Path(file["path"]), run.folder / BLOBS / file["sha256"]
        path = kept if kept.is_file() else given
        if not path.is_file() or (found := file_facts(file["name"], path)).sha256 != file["sha256"]:
            raise UsageError(
                f"{given} is no longer what run {run.id} worked on",
                hint="`rlm.keep_context_mb` sets which contexts are kept with their runs.",
            )
        files.append(found)
    source = ContextSource(begun["context"]["kind"], tuple(ContextFile(file.name, file.path) for file in files))
    return Context(source, tuple(files))
