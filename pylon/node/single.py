"""The `ask` call: one question to the swarm, with its answer as it grows."""

from contextlib import aclosing
from dataclasses import replace
from typing import Any

from pylon.node.asking import job_spec
from pylon.node.calls.params import flag, number
from pylon.node.calls.protocol import Answers, Event, Result
from pylon.node.outcomes import row_of
from pylon.nostr.pool import RelayPool
from pylon.sections import CustomerSection
from pylon.swarm.client import SwarmClient
from pylon.swarm.job import JobSpec
from pylon.swarm.meanwhile import LatestValue, meanwhile
from pylon.swarm.runs.question_checks import unaskable
from pylon.swarm.runs.reservation import CallReservation
from pylon.swarm.runs.run import Single


async def ask_one(
    client: SwarmClient,
    pool: RelayPool,
    settings: CustomerSection,
    params: dict[str, Any],
    reservation: CallReservation | None = None,
) -> Answers:
    """The `ask` call: asks a `job`, as `map` takes it. It never costs more than its reservation.

    `timeout_s` is for a job that names no timeout. With `stream`, events bring `text`, the whole answer so far; it
    starts again from the beginning if another provider takes over. The result is a row as `map` gives it, with
    `charged_msat` and `most_msat`, the most that all attempts can still come to. Raises `UsageError` for an invalid
    job, `UnreachableError` if no relay is reached.
    """
    timeout = float(number(params, "timeout_s", 0.0) or settings.timeout_s)
    stream = flag(params, "stream")
    spec = job_spec(params.get("job"), timeout)
    if failure := unaskable(spec, plain=client.settings.plain):
        yield Result(_row(Single(failure, 0, 0)))
        return
    patience_s = min(settings.patience_s, spec.timeout)
    await pool.wait_open(patience_s)
    await client.caught_up(patience_s)
    if not stream:
        yield Result(_row(await client.single(spec, reservation=reservation)))
        return
    async with aclosing(_streamed(client, replace(spec, stream=True), reservation)) as answers:
        async for answer in answers:
            yield answer


async def _streamed(client: SwarmClient, spec: JobSpec, reservation: CallReservation | None) -> Answers:
    texts = LatestValue[str]()
    async with meanwhile(client.single(spec, reservation=reservation, partial=texts.say), texts.over) as asking:
        async for text in texts:
            yield Event({"text": text})
        yield Result(_row(await asking))


def _row(single: Single) -> dict[str, Any]:
    row = row_of(0, single.outcome)
    return {**row, "charged_msat": single.msat, "most_msat": single.most_msat}
