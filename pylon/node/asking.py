"""The `map` call: reads its jobs from JSON, runs them in the swarm, and writes outcomes as JSON."""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from itertools import batched
from typing import Any

from pylon.clock import Clock
from pylon.errors import UnreachableError, UsageError
from pylon.node.calls.params import AT_ONCE, flag, job_list, number, whole
from pylon.node.calls.protocol import Answers, Event, Result
from pylon.node.estimate import estimate
from pylon.node.loading import until_ready
from pylon.node.map_run import MapRun
from pylon.node.outcomes import rows_of, summary_of
from pylon.node.so_far import so_far
from pylon.nostr.pool import RelayPool
from pylon.sections import CustomerSection
from pylon.store.database import Database
from pylon.store.group import GroupCommit
from pylon.swarm.client import SwarmClient
from pylon.swarm.job import JobSpec
from pylon.swarm.runs.journal import KEEP_S, RunJournal
from pylon.swarm.runs.question_checks import fault_in, spec_of
from pylon.swarm.runs.reservation import CallReservation

_LEAST_PRIORITY = -(2**63)

_FIELDS = {field.name for field in dataclasses.fields(JobSpec)}


@dataclasses.dataclass(frozen=True, slots=True)
class Books:
    """Where runs that can be resumed are recorded. `open` holds those in progress in this process."""

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
            hint = "Wait until it is done, or stop it with Ctrl-C and run this again with `resume`."
            raise UsageError("another command is asking these same prompts now", hint=hint)
        self.open.add(journal.run)
        try:
            yield
        finally:
            self.open.discard(journal.run)


@dataclasses.dataclass(frozen=True, slots=True)
class _Wanted:
    """The parameters of a `map` call."""

    specs: list[JobSpec]
    priority: int
    deadline_s: float | None
    stream: bool
    dry: bool
    kept: bool
    resume: bool
    only_kept: bool
    pinned: bool

    @property
    def looks(self) -> bool:
        """Whether the call only reads what a run has so far, and asks nobody."""
        return self.resume and self.deadline_s == 0 and not self.dry

    def patience_s(self, settings: CustomerSection) -> float:
        """Seconds to wait for relays and providers. A deadline of 0, of a call that only looks, does not count."""
        given = None if self.looks else self.deadline_s
        return settings.patience_s if given is None else min(settings.patience_s, given)

    def loading_s(self, asked: Sequence[JobSpec], patience_s: float) -> float:
        """Seconds to wait for providers that are loading their model: as long as the most patient of these questions
        does, or for `patience_s` seconds if nobody will be asked."""
        if self.looks:
            return patience_s
        longest = max((spec.timeout for spec in asked), default=0.0)
        return longest if self.deadline_s is None else min(longest, self.deadline_s)


async def ask_all(
    client: SwarmClient,
    pool: RelayPool,
    settings: CustomerSection,
    books: Books,
    params: dict[str, Any],
    reservation: CallReservation | None = None,
) -> Answers:
    """The `map` call: `jobs`, each with a `prompt` and any other field of `JobSpec`. Optional: `timeout_s` a job,
    `deadline_s` of the run, `priority`, `journal`, `resume`, `only_kept`, `pin_weights`, `dry_run`, `stream`. All of
    it together never costs more than its reservation.

    Events tell `done`, how many of them `failed`, `paid_msat`, `in_flight`, `providers`, and how many of these are
    waited for because they are `loading` their model and no other takes the jobs; before the run begins, and in a dry
    run, `loading` alone. The result holds every outcome in order and their summary. With `stream`, events bring the
    `outcomes` as they come, and the result leaves them out. With `resume` a kept run is continued; if there is none a
    new one begins, unless `only_kept` is set. A deadline of 0 returns what there is, and asks nobody. Raises
    `UsageError` for an invalid job, for a run that another call has open, and if there is no kept run for a deadline
    of 0 or `only_kept`; `UnreachableError` if no relay is reached, or no provider could take any job.
    """
    wanted = await _wanted(params, settings)
    patience_s = wanted.patience_s(settings)
    if wanted.pinned or not wanted.looks:
        await pool.wait_open(patience_s)
        # Else all jobs would go to the first provider that is heard of.
        await client.caught_up(patience_s)
    if wanted.pinned or wanted.dry:
        # Both go by who is ready now.
        longest = await _longest_of_each_model(wanted.specs)
        loading_s = wanted.loading_s(longest, patience_s)
        async with aclosing(until_ready(client, longest, books.clock, patience_s, loading_s)) as waiting:
            async for event in waiting:
                yield event
    if wanted.pinned:
        wanted = dataclasses.replace(wanted, specs=await _pinned(client, wanted.specs))
    if wanted.looks:
        answers = _look(client, books, wanted)
    elif wanted.dry:
        answers = _dry_run(client, wanted)
    else:
        answers = _run(client, books, wanted, reservation)
    async with aclosing(answers):
        async for answer in answers:
            yield answer


async def _wanted(params: dict[str, Any], settings: CustomerSection) -> _Wanted:
    timeout = float(number(params, "timeout_s", 0.0) or settings.timeout_s)
    return _Wanted(
        priority=whole(params, "priority", 0, low=_LEAST_PRIORITY),
        deadline_s=number(params, "deadline_s", None),
        stream=flag(params, "stream"),
        dry=flag(params, "dry_run"),
        kept=flag(params, "journal"),
        resume=flag(params, "resume"),
        only_kept=flag(params, "only_kept"),
        pinned=flag(params, "pin_weights"),
        # The other parameters are checked before a hundred thousand jobs are read.
        specs=await _specs(params, timeout),
    )


async def _kept(books: Books, specs: list[JobSpec]) -> RunJournal:
    journal = await RunJournal.find(books.database, books.group, books.clock, specs)
    if journal is None:
        hint = "A run is kept for the same prompts, order and options, for"
        hint += f" {KEEP_S / 86_400:.0f} days. Leave out `resume` to start a new run."
        raise UsageError("there is no kept run of these prompts and options", hint=hint)
    return journal


async def _look(client: SwarmClient, books: Books, wanted: _Wanted) -> Answers:
    journal = await _kept(books, wanted.specs)
    for answer in await so_far(client, journal, wanted.specs, stream=wanted.stream):
        yield answer


async def _dry_run(client: SwarmClient, wanted: _Wanted) -> Answers:
    yield Result(await estimate(client, wanted.specs))


async def _run(client: SwarmClient, books: Books, wanted: _Wanted, reservation: CallReservation | None) -> Answers:
    journal, specs, resume = None, wanted.specs, wanted.resume
    if resume and wanted.only_kept:
        journal = await _kept(books, specs)
    elif wanted.kept or resume:
        journal = await RunJournal.open(books.database, books.group, books.clock, specs, resume=resume)
    taken_up = journal is not None and journal.taken_up
    run = MapRun(client, specs, stream=wanted.stream)
    # The run ends before another call may resume it.
    with books.held(journal):
        if not taken_up:
            # From here on it may ask, and can be taken up again. What was done before is not known yet.
            yield Event(await run.told())
        mapped = run.run(
            journal=journal, priority=wanted.priority, deadline_s=wanted.deadline_s, reservation=reservation
        )
        async with aclosing(mapped) as events:
            async for event in events:
                yield event
    result = {"resumed": taken_up, **await summary_of(run.outcomes, run.wall_s, run.msat)}
    if reservation is not None:
        result["most_msat"] = max(result["paid_msat"], reservation.most_msat)
    if not wanted.stream:
        result["outcomes"] = await rows_of(run.outcomes)
    yield Result(result)


async def _longest_of_each_model(specs: list[JobSpec]) -> list[JobSpec]:
    """The longest question for each model that is asked for; malformed ones do not count."""
    longest: dict[str | None, JobSpec] = {}
    for some in batched(specs, AT_ONCE):
        for spec in some:
            if not fault_in(spec) and _characters(spec) >= _characters(longest.get(spec.model, spec)):
                longest[spec.model] = spec
        await asyncio.sleep(0)
    return list(longest.values())


def _characters(spec: JobSpec) -> int:
    return len(spec.prompt) if spec.messages is None else sum(len(content) for _, content in spec.messages)


async def _pinned(client: SwarmClient, specs: list[JobSpec]) -> list[JobSpec]:
    """The same questions for one set of weights: those that most of the slots that do have."""
    wanted = {spec.model for spec in await _longest_of_each_model(specs)}
    if len(wanted) > 1:
        raise UsageError("weights can be pinned only for one model", hint="Name one model for all prompts.")
    [model] = wanted or {None}
    slots: Counter[str] = Counter()
    for listing in client.directory:
        found = listing.model(model)
        if found is not None and found.sha256:
            slots[found.sha256] += listing.slots
    if not slots:
        raise UnreachableError(
            "no provider states the weights of its model", hint="`pylon providers` lists the providers."
        )
    [(sha256, _)] = slots.most_common(1)
    asked: list[JobSpec] = []
    for some in batched(specs, AT_ONCE):
        asked += [spec if fault_in(spec) else dataclasses.replace(spec, model=f"sha256:{sha256}") for spec in some]
        await asyncio.sleep(0)
    return asked


async def _specs(params: dict[str, Any], timeout: float) -> list[JobSpec]:
    """The jobs of a call, removed from `params`: as JSON they would hold as much memory again during the call."""
    jobs = job_list(params)
    params.pop("jobs", None)
    specs: list[JobSpec] = []
    # In short turns of the event loop: a thread would make all other work here wait for the interpreter's lock.
    for some in batched(jobs, AT_ONCE):
        specs += [job_spec(job, timeout) for job in some]
        await asyncio.sleep(0)
    return specs


def job_spec(job: object, timeout: float) -> JobSpec:
    """Reads a job of a call; `timeout` is in seconds, for a job that names none. Raises `UsageError`."""
    if not isinstance(job, dict) or not isinstance(job.get("prompt", ""), str):
        raise UsageError("each job must be an object with a prompt")
    unknown = set(job) - _FIELDS - {"index", "id"}
    if unknown:
        raise UsageError(
            f"unknown job field {', '.join(sorted(map(repr, unknown)))}",
            hint=f"A job may have {', '.join(sorted(_FIELDS))}.",
        )
    fields = {name: value for name, value in job.items() if name in _FIELDS and value is not None}
    return spec_of(JobSpec(**{"timeout": timeout, **fields}), {})
