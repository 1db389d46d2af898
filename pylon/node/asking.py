"""The `map` call: jobs and outcomes as JSON on one side, the swarm's values on the other."""

import asyncio
import dataclasses
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from itertools import batched
from typing import Any

from pylon.clock import Clock
from pylon.errors import UnreachableError, UsageError
from pylon.node.calls.control import Answers, Event, Result
from pylon.node.calls.params import AT_ONCE, flag, job_list, number, whole
from pylon.node.estimate import estimate
from pylon.node.outcomes import row_of, rows_of, summary_of
from pylon.node.so_far import so_far
from pylon.nostr.pool import RelayPool
from pylon.sections import CustomerSection
from pylon.store.database import Database
from pylon.store.group import GroupCommit
from pylon.swarm.client import SwarmClient
from pylon.swarm.job import JobSpec, Outcome, Progress
from pylon.swarm.meanwhile import meanwhile
from pylon.swarm.runs.asked import fault_in, spec_of
from pylon.swarm.runs.journal import RunJournal
from pylon.swarm.runs.reservation import Reservation

# How often a run says how far it is; more would cost more than it tells.
REPORT_S = 0.1
_LEAST_PRIORITY = -(2**63)

_FIELDS = {field.name for field in dataclasses.fields(JobSpec)}


@dataclasses.dataclass(frozen=True, slots=True)
class Books:
    """Where runs that can be taken up again are written down. `open` holds those that go on in this process."""

    database: Database
    group: GroupCommit
    clock: Clock
    open: set[str] = dataclasses.field(default_factory=set)

    @contextmanager
    def held(self, journal: RunJournal | None) -> Iterator[None]:
        """One call has this run for as long as this lasts. Raises `UsageError` when another one has it.

        Two that took it up would both ask and pay for what is left, and one hear nothing of what the other had sent.
        """
        if journal is None:
            yield
            return
        if journal.run in self.open:
            hint = "Wait until that one is done, or end it with Ctrl-C; then take the run up."
            raise UsageError("another command is asking these very prompts now", hint=hint)
        self.open.add(journal.run)
        try:
            yield
        finally:
            self.open.discard(journal.run)


async def ask_all(
    client: SwarmClient,
    pool: RelayPool,
    settings: CustomerSection,
    books: Books,
    params: dict[str, Any],
    reservation: Reservation | None = None,
) -> Answers:
    """The `map` call: `jobs`, each with a `prompt` and any other field of `JobSpec`. Optional: `timeout_s` a job,
    `deadline_s` of the run, `priority`, `journal`, `resume`, `pin_weights`, `dry_run`, `stream`. All of it together
    never costs more than its reservation.

    Events tell `done`, how many of them `failed`, `msat`, `in_flight` and `providers`; the result holds every outcome
    in order and their summary. With `stream`, events bring the `outcomes` as they come, and the result leaves them
    out. With `resume` a deadline of 0 gives what there is, and asks nobody. Raises `UsageError` for a job that is not
    one, for a run that another call has, and for one that is only looked at and not there; `UnreachableError` when no
    relay is there, or nobody who could take any.
    """
    timeout = float(number(params, "timeout_s", 0.0) or settings.timeout_s)
    pinned, dry, stream = flag(params, "pin_weights"), flag(params, "dry_run"), flag(params, "stream")
    kept, resume = flag(params, "journal"), flag(params, "resume")
    priority = whole(params, "priority", 0, low=_LEAST_PRIORITY)
    deadline = number(params, "deadline_s", None)
    specs = await _specs(params, timeout)
    looks = resume and deadline == 0 and not dry
    patience_s = settings.patience_s if deadline is None or looks else min(settings.patience_s, deadline)
    if pinned or not looks:
        await pool.wait_open(patience_s)
        # Whoever asks the first provider it hears of gives all its jobs to that one.
        await client.caught_up(patience_s)
    if pinned:
        specs = await _pinned(client, specs, patience_s)
    if looks:
        journal = await RunJournal.find(books.database, books.group, books.clock, specs)
        for answer in await so_far(client, journal, specs, stream=stream):
            yield answer
        return
    if dry:
        await _somebody(client, patience_s)
        yield Result(await estimate(client, specs))
        return
    journal = None
    if kept or resume:
        journal = await RunJournal.open(books.database, books.group, books.clock, specs, resume=resume)
    run = _Mapping(client, specs, stream=stream)
    options = {"journal": journal, "priority": priority, "deadline_s": deadline, "reservation": reservation}
    # It has ended before another call may take it up.
    with books.held(journal):
        if journal is None or not journal.taken_up:
            # From here on it may ask, and can be taken up again. What was done before is not known yet.
            yield Event(run.told())
        async with aclosing(run.run(**options)) as events:
            async for event in events:
                yield event
    result = {
        "resumed": journal is not None and journal.taken_up,
        **await summary_of(run.outcomes, run.wall_s, run.msat),
    }
    if reservation is not None:
        result["most_msat"] = max(result["paid_msat"], reservation.most_msat)
    if not stream:
        result["outcomes"] = await rows_of(run.outcomes)
    yield Result(result)


class _Mapping:
    """One run of `map`, told as events."""

    def __init__(self, client: SwarmClient, specs: Sequence[JobSpec], *, stream: bool) -> None:
        self.stream = stream
        self.outcomes: list[Outcome] = []
        self.wall_s = 0.0
        self._client = client
        self._specs = specs
        self._latest = Progress(len(specs), 0, 0, 0)
        self._fresh: list[dict[str, Any]] = []
        self._came = asyncio.Event()

    async def run(self, **options: Any) -> AsyncGenerator[Event]:
        """Runs it; events until it is done."""
        started = time.monotonic()
        on_outcome = self._outcome_came if self.stream else None
        mapping = self._client.map(self._specs, on_progress=self._progressed, on_outcome=on_outcome, **options)
        async with meanwhile(mapping, self._came.set) as asking:
            while not asking.done() or self._fresh:
                if self.stream:
                    await self._came.wait()
                    self._came.clear()
                else:
                    await asyncio.wait({asking}, timeout=REPORT_S)
                yield Event(self.told())
            self.outcomes = await asking
        self.wall_s = time.monotonic() - started

    @property
    def msat(self) -> int:
        """What it was charged, second opinions and what was not used included."""
        return self._latest.msat

    def told(self) -> dict[str, Any]:
        """How far it is, and with `stream` the outcomes that were not told yet."""
        now = self._latest
        event: dict[str, Any] = {
            "done": now.answered + now.failed,
            "failed": now.failed,
            "msat": now.msat,
            "in_flight": now.in_flight,
            "providers": len(self._client.directory),
        }
        if self._fresh:
            event["outcomes"], self._fresh = self._fresh, []
        return event

    def _progressed(self, now: Progress) -> None:
        self._latest = now

    def _outcome_came(self, index: int, outcome: Outcome) -> None:
        self._fresh.append(row_of(index, outcome))
        self._came.set()


async def _somebody(client: SwarmClient, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while not len(client.directory) and time.monotonic() < deadline:  # noqa: ASYNC110 - it tells nobody who waits
        await asyncio.sleep(REPORT_S)


async def _pinned(client: SwarmClient, specs: list[JobSpec], patience_s: float) -> list[JobSpec]:
    """The same questions for one set of weights: those that most of the slots that do have."""
    await _somebody(client, patience_s)
    wanted: set[str | None] = set()
    for some in batched(specs, AT_ONCE):
        wanted.update(spec.model for spec in some if not fault_in(spec))
        await asyncio.sleep(0)
    if len(wanted) > 1:
        raise UsageError("weights are pinned for one model", hint="Name one model for all prompts.")
    [model] = wanted or {None}
    slots: Counter[str] = Counter()
    for listing in client.directory:
        found = listing.model(model)
        if found is not None and found.sha256:
            slots[found.sha256] += listing.slots
    if not slots:
        raise UnreachableError("no provider names the weights that it runs", hint="See `pylon providers`.")
    [(sha256, _)] = slots.most_common(1)
    asked: list[JobSpec] = []
    for some in batched(specs, AT_ONCE):
        asked += [spec if fault_in(spec) else dataclasses.replace(spec, model=f"sha256:{sha256}") for spec in some]
        await asyncio.sleep(0)
    return asked


async def _specs(params: dict[str, Any], timeout: float) -> list[JobSpec]:
    """The jobs of a call, taken out of it: as JSON they would take as much memory again for as long as it lasts."""
    jobs = job_list(params)
    params.pop("jobs", None)
    specs: list[JobSpec] = []
    # In turns of this loop. In a thread each step of whoever else is served would wait for the interpreter's lock.
    for some in batched(jobs, AT_ONCE):
        specs += [job_spec(job, timeout) for job in some]
        await asyncio.sleep(0)
    return specs


def job_spec(job: object, timeout: float) -> JobSpec:
    """A job as calls write it, with so many seconds where it does not say. Raises `UsageError`."""
    if not isinstance(job, dict) or not isinstance(job.get("prompt", ""), str):
        raise UsageError("every job is an object with a prompt")
    unknown = set(job) - _FIELDS - {"index", "id"}
    if unknown:
        raise UsageError(
            f"jobs have no field {', '.join(sorted(map(repr, unknown)))}",
            hint=f"They may have {', '.join(sorted(_FIELDS))}.",
        )
    fields = {name: value for name, value in job.items() if name in _FIELDS and value is not None}
    return spec_of(JobSpec(**{"timeout": timeout, **fields}), {})
