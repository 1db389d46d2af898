"""A run once more, with no model at all: the root's turns and the sub-calls' answers come from its trajectory.

The code runs again, in a REPL as before. So a replay shows what a change of the sandbox or of the loop does to a run
that was paid for once, and whether a trajectory tells the truth.
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
from pylon.rlm.course import LoopOutcome
from pylon.rlm.earlier import outcome_of
from pylon.rlm.repl.protocol import CellLimits, ContextFile, ContextSource, Repl
from pylon.rlm.rlm import Rlm
from pylon.rlm.root import Charged, Message, Reply, RootError, unpaid
from pylon.rlm.run_ends import Origin
from pylon.rlm.runs import Run
from pylon.rlm.settings import LoopSettings, SubSettings
from pylon.rlm.sublm import Came, Job, SubFailure, SubModels, SubOutcome
from pylon.rlm.trajectory import BLOBS, Event, Trajectory, name_of
from pylon.unsettled import CameTo

# Whatever held the run up then is known now.
_UNBOUND_S = 1e9


class RecordedRoot:
    """A root that is no model: it says again what was said in each loop."""

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
        # Its tokens were spent then.
        return Reply(
            self._run.needed(event["reply"], "a turn of the root"), 0, 0, event["model"], finish=event.get("finish")
        )

    async def close(self) -> None:
        """See `Root`."""


class RecordedSubLM:
    """A sub-LM that is no model: equal prompts to the same model get the outcomes that they got, in the order in
    which they were asked. Those that were refused come after them: nobody was asked."""

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
        """See `SubLM`. What was recorded costs nothing."""
        return dict.fromkeys(names)

    def _outcome(self, job: Job) -> SubOutcome:
        sha256 = name_of(job.prompt)["sha256"]
        key = (job.model, sha256)
        if known := self._asked[key] or self._refused[sha256]:
            self._last[key] = known.popleft()
        if (event := self._last.get(key)) is None:
            return SubFailure("not_recorded", "the recorded run has no such call")
        # The last one stands for whatever was asked more often now.
        outcome = outcome_of(self._run, event)
        # It was paid then.
        return outcome if isinstance(outcome, SubFailure) else replace(outcome, msat=0, verified=("recorded",))


@dataclass(frozen=True, slots=True)
class Replayed:
    """`same` tells whether both gave the same answer; a run that never `ended` gave none to compare with."""

    outcome: LoopOutcome
    recorded: str | None
    same: bool
    ended: bool


async def replay(
    run: Run, open_repl: Callable[[], Repl], trajectory: Trajectory, clock: Clock, *, settings: LoopSettings
) -> Replayed:
    """Runs it again, with as many turns and the limits of a cell as then. Raises `UsageError` when its context is not
    there any more, it never began, or what its models said then is not kept as it was."""
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
    came_to = None if outcome.answer is None else name_of(outcome.answer)["sha256"]
    answer = None if ended is None else ended["answer"]
    recorded = None if answer is None else run.text(answer)
    # By their hashes: the text of then need not be kept for that.
    same = ended is not None and came_to == (answer and answer["sha256"])
    return Replayed(outcome, recorded, same, ended is not None)


def _ends(run: Run) -> tuple[Event, Event | None]:
    begun = ended = None
    for event in run.sound_events():
        begun = event if event["type"] == "run" else begun
        ended = event if event["type"] == "final" else ended
    if begun is None:
        raise UsageError(f"run {run.id} ended before it began", hint="`pylon rlm list` shows the stored runs.")
    return begun, ended


def _checked(run: Run, begun: Event) -> str:
    """The question, once every text that is said again is there: what is missing would only fail a call inside."""
    for event in run.events():
        if event["type"] == "turn":
            run.needed(event["reply"], f"turn {event['turn']} of loop {event['loop']}")
        elif event["type"] == "returned" and "code" not in event:
            run.needed(event["text"], f"the answer to {event['call']}")
    return run.needed(begun["question"], "the question")


def recorded_cell(run: Run, begun: Event) -> CellLimits:
    """The limits of a cell that a run had. Raises `UsageError` for one that this version of Pylon does not know:
    without it the code may do something else than it did then."""
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
    """What a run worked on. Raises `UsageError` where that is not there any more."""
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
