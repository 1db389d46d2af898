"""What comes in one batch: one part of it that fails costs the others nothing."""

import asyncio
import sqlite3
from types import SimpleNamespace
from typing import Any

import pytest

from pylon.clock import SystemClock
from pylon.jobs.cancel import cancel_draft
from pylon.jobs.codes import ErrorCode
from pylon.jobs.kinds import DELETION, RLM_REQUEST
from pylon.jobs.request import private_draft
from pylon.nostr.pool_subscription import Received
from pylon.provider.intake import refusals
from pylon.provider.intake.intake import Intake
from pylon.provider.refusal_budget import RefusalBudget, RefusalLimits
from pylon.provider.rows import JobState


async def test_a_write_that_fails_costs_its_job_and_nothing_else_of_its_batch(serve, customer, monkeypatch):
    serving = await serve(delay_s=30.0, slots=1)
    unwanted = await customer.ask(serving.public, customer.job("unwanted"))
    async with asyncio.timeout(10):
        while not (await serving.provider.status()).running:
            await asyncio.sleep(0.02)
    now = int(SystemClock().wall())

    def request(text, **parameters):
        draft = private_draft(customer.job(text, **parameters), serving.public, customer.keys, created_at=now)
        return customer.secret.sign(draft)

    unlucky, lucky, refused = request("unlucky"), request("lucky"), request("refused", model="another")
    taken_back = customer.secret.sign(cancel_draft((unwanted.id,), RLM_REQUEST, serving.public, created_at=now))
    intake = serving.provider._intake
    take = intake._settlement.take

    async def fails(job):
        if job.id == unlucky.id:
            raise sqlite3.OperationalError("database or disk is full")
        return await take(job)

    monkeypatch.setattr(intake._settlement, "take", fails)
    batch = [Received(event, "") for event in (unlucky, lucky, refused, taken_back)]
    await intake._take(batch, live=True)
    assert (await customer.refusal(refused)).code is ErrorCode.UNSUPPORTED_MODEL
    async with asyncio.timeout(10):
        while (await serving.journal.counts()).get(JobState.CANCELLED) != 1:
            await asyncio.sleep(0.02)
    rows = {row.id: row.state for row in await serving.journal.rows()}
    assert rows == {unwanted.id: JobState.CANCELLED, lucky.id: JobState.QUEUED}


async def test_a_fault_over_one_event_costs_no_other_of_its_batch_its_answer():
    refused, taken_back = [], []

    def judge(received: Any, _: Any) -> Any:
        if received.event.id == "1":
            raise RecursionError("a fault of ours")
        return received.event

    async def refuse(refusals: Any, *, live: bool) -> None:
        refused.extend(refusal.id for refusal in refusals)

    async def take_back(event: Any) -> list[tuple[str, str]]:
        if event.id == "a":
            raise RecursionError("a fault of ours")
        taken_back.append(event.id)
        return []

    unused: Any = None
    judges: Any = SimpleNamespace(judge=judge)
    refuses: Any = SimpleNamespace(refuse=refuse)
    active_jobs: Any = SimpleNamespace(take_back=take_back)
    intake = Intake(
        pool=unused, filters=unused, judge=judges, settlement=unused, active_jobs=active_jobs, open_cancels=unused,
        refusals=refuses, cannot_write=unused,
    )  # fmt: skip
    kinds = dict.fromkeys("01234", RLM_REQUEST) | dict.fromkeys("abc", DELETION)
    events: list[Any] = [SimpleNamespace(id=id_, kind=kind) for id_, kind in kinds.items()]
    await intake._take([Received(event, "") for event in events], live=True)
    assert (refused, taken_back) == (["0", "2", "3", "4"], ["b", "c"])


async def test_a_refusal_that_nobody_is_told_is_not_logged(serve, customer, monkeypatch):
    serving = await serve()
    intake, logged = serving.provider._intake, []
    monkeypatch.setattr(intake._refusals._replies, "_budget", RefusalBudget(RefusalLimits(burst=2, per_s=0.0)))
    monkeypatch.setattr(refusals.logger, "info", lambda said, **about: logged.append((said, about["job"])))
    now = int(SystemClock().wall())
    drafts = [
        private_draft(customer.job(f"{n}", model="another"), serving.public, customer.keys, created_at=now)
        for n in range(9)
    ]
    refused = [customer.secret.sign(draft) for draft in drafts]
    await intake._take([Received(event, "") for event in refused], live=True)
    assert logged == [("refused", event.id) for event in refused[:2]]


@pytest.mark.parametrize("known", [False, True])
async def test_of_a_job_that_the_journal_has_nobody_hears_that_it_is_not_done(serve, customer, monkeypatch, known):
    serving = await serve(delay_s=30.0)
    intake, now = serving.provider._intake, int(SystemClock().wall())
    request = customer.secret.sign(private_draft(customer.job(), serving.public, customer.keys, created_at=now))
    batch = [Received(request, "")]
    if known:
        await intake._take(batch, live=True)

    async def fails(*_):
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(intake._active_jobs, "take", fails)
    monkeypatch.setattr(serving.journal, "known", fails)
    await intake._take(batch, live=True)
    assert await serving.journal.counts() == {JobState.QUEUED: 1}
    assert intake._refusals._refused.code(request.id) is None
