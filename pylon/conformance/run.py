"""Runs all probes against one provider and reports the verdicts."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pylon.conformance import answers, exchanges, lifecycle, presence, refusals
from pylon.conformance.clauses import Clause, ClauseOutcome, Verdict, skipped
from pylon.conformance.context import ProbeContext
from pylon.errors import PylonError, UnreachableError
from pylon.jobs.kinds import ANNOUNCEMENT, HEARTBEAT, RLM_REQUEST
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.pool import RelayPool

# Probes that run at once. Each has customers of its own.
AT_ONCE = 4
LOOK_S = 0.5
# Seconds within which one of the relays must be reached.
OPEN_S = 10.0

type Probe = Callable[[ProbeContext], Awaitable[list[Verdict]]]

# Each probe with the clauses that it judges. Those that take long come first, so that others run meanwhile.
PROBES: tuple[tuple[Probe, tuple[Clause, ...]], ...] = (
    (lifecycle.cancel, (Clause.CANCEL,)),
    (lifecycle.foreign_cancel, (Clause.FOREIGN_CANCEL,)),
    (lifecycle.once, (Clause.ONCE,)),
    (exchanges.compressed, (Clause.ZSTD,)),
    (exchanges.plain_sealed, (Clause.PLAIN_SEALED,)),
    (exchanges.chat, (Clause.CHAT,)),
    (exchanges.kinds, (Clause.KINDS,)),
    (exchanges.in_the_open, (Clause.OPEN_ANSWERED, Clause.OPEN_FORM, Clause.OPEN_ECHO)),
    (refusals.unknown_param, (Clause.UNKNOWN_PARAM,)),
    (refusals.unknown_model, (Clause.UNKNOWN_MODEL,)),
    (refusals.fetching_input, (Clause.FETCHING_INPUT,)),
    (refusals.undecryptable, (Clause.UNDECRYPTABLE,)),
    (refusals.bomb, (Clause.BOMB,)),
    (refusals.expired, (Clause.EXPIRED,)),
    (refusals.stale, (Clause.STALE,)),
    (refusals.unserved_kind, (Clause.UNSERVED_KIND,)),
    (refusals.malformed, (Clause.MALFORMED,)),
    (refusals.not_for_us, (Clause.NOT_FOR_US,)),
)


@dataclass(frozen=True, slots=True)
class Report:
    """One verdict on every clause, in the order of the clauses."""

    verdicts: tuple[Verdict, ...]

    def of(self, outcome: ClauseOutcome) -> list[Verdict]:
        """The verdicts with that outcome."""
        return [verdict for verdict in self.verdicts if verdict.outcome is outcome]

    @property
    def passed(self) -> bool:
        """Whether every clause passed; a skipped one counts as not passed."""
        return len(self.of(ClauseOutcome.PASS)) == len(Clause)

    def to_dict(self) -> dict[str, Any]:
        """The report as `--json` prints it."""
        counts = Counter(verdict.outcome for verdict in self.verdicts)
        return {
            "conforms": self.passed,
            "passed": counts[ClauseOutcome.PASS],
            "failed": counts[ClauseOutcome.FAIL],
            "skipped": counts[ClauseOutcome.SKIPPED],
            "clauses": [verdict.to_dict() for verdict in self.verdicts],
        }


async def examine(
    provider: str,
    relays: Sequence[str],
    *,
    answer_s: float = 60.0,
    silence_s: float = 5.0,
    told: Callable[[Verdict], None] | None = None,
) -> Report:
    """Tests a provider, named by its public key, over these relays. `told` is called with each verdict at once.

    `answer_s` is how many seconds a result may take, `silence_s` how many without an answer count as silence.
    Raises `UnreachableError` if no relay can be reached.
    """
    verdicts: dict[Clause, Verdict] = {}

    def keep(found: Sequence[Verdict]) -> None:
        for verdict in found:
            verdicts[verdict.clause] = verdict
            if told is not None:
                told(verdict)

    events = await _presence(provider, relays, silence_s)
    keep(presence.judge_presence(events, time.time()))
    announced = presence.kinds_of(presence.newest(events, ANNOUNCEMENT))
    context = ProbeContext(provider, relays, answer_s, silence_s, announced or (RLM_REQUEST,))
    keep(await exchanges.first(context))
    if verdicts[Clause.ANSWERED].outcome is ClauseOutcome.PASS:
        room = asyncio.Semaphore(AT_ONCE)

        async def one(probe: Probe, clauses: Sequence[Clause]) -> None:
            async with room:
                try:
                    keep(await probe(context))
                except PylonError as error:
                    keep([skipped(clause, str(error)) for clause in clauses])

        await asyncio.gather(*(one(probe, clauses) for probe, clauses in PROBES))
        keep(answers.judge_feedback(context.customers))
    missing = "without an answer to a first request, nothing can be compared"
    return Report(tuple(verdicts.get(clause) or skipped(clause, missing) for clause in Clause))


async def _presence(provider: str, relays: Sequence[str], seconds: float) -> list[Event]:
    wanted = Filter(authors=frozenset({provider}), kinds=frozenset({ANNOUNCEMENT, HEARTBEAT}))
    pool = RelayPool(relays)
    pool.start()
    try:
        await pool.wait_open(OPEN_S)
        events: list[Event] = []
        deadline = time.monotonic() + seconds
        # A provider that has just started may not have published both yet.
        while {ANNOUNCEMENT, HEARTBEAT} - {event.kind for event in events}:
            with suppress(UnreachableError):
                events = await pool.query((wanted,))
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(LOOK_S)
        return events
    finally:
        await pool.close()
