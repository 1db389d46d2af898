"""What a run has by now, without asking anybody: how one gets at the answers of a `map` that was interrupted."""

from collections.abc import Sequence

from pylon.node.calls.protocol import Event, Result
from pylon.node.outcomes import rows_of, summary_of
from pylon.swarm.client import SwarmClient
from pylon.swarm.dispatch.messages import Failure
from pylon.swarm.job import JobFailed, JobSpec, Outcome
from pylon.swarm.runs.journal import RunJournal


async def so_far(
    client: SwarmClient, journal: RunJournal, specs: Sequence[JobSpec], *, stream: bool
) -> list[Event | Result]:
    """What a run of these questions has: read from the disk, also beside a call that goes on with it. The result, and
    with `stream` an event before it that has the outcomes."""
    kept, msat = await client.so_far(journal)
    missing = JobFailed(
        "no answer yet", reason=Failure.DEADLINE, code=None, attempts=0,
        hint="Resume without a deadline of 0 to ask it.",
    )  # fmt: skip
    outcomes: list[Outcome] = [kept.answers.get(place, missing) for place in range(len(specs))]
    rows = await rows_of(outcomes)
    result = {"resumed": True, **await summary_of(outcomes, 0.0, msat)}
    if not stream:
        return [Result({**result, "outcomes": rows})]
    told = {"done": len(rows), "failed": len(rows) - len(kept.answers), "paid_msat": msat}
    now = {"in_flight": 0, "providers": len(client.directory), "loading": 0}
    return [Event({**told, **now, "outcomes": rows}), Result(result)]
