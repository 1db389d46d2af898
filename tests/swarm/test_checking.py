"""Checks on the customer's own edge: real events and keys, fake relays, providers that lie."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from pylon.clock import BELIEVED_S, SystemClock
from pylon.jobs.result import Finish, ModelUsed
from pylon.nostr.event import Event
from pylon.nostr.keys import SecretKey
from pylon.store.database import Database
from pylon.swarm.checks import reputation as reputation_module
from pylon.swarm.checks import reputation_store
from pylon.swarm.checks.commands import Changed
from pylon.swarm.checks.reputation import Reputation, Seen, why
from pylon.swarm.checks.verification import Score
from pylon.swarm.client import SwarmClient
from pylon.swarm.dispatch.messages import Failure
from pylon.swarm.job import Answer, JobSpec, Progress
from pylon.swarm.runs.journal import RunJournal
from pylon.swarm.runs.places import Fail, Unfill
from pylon.swarm.runs.run import Run
from pylon.swarm.schema import SWARM
from pylon.swarm.settings import SwarmSettings
from tests.opened import opened_database
from tests.swarm.fakes import MODEL, FakeProvider, FakeRelays
from tests.waiting import until


class Liar(FakeProvider):
    """Answers, but not what was asked."""

    def result(self, event: Event, request, text: str, *, as_: SecretKey | None = None) -> Event:  # type: ignore[no-untyped-def]
        return super().result(event, request, f"lie about {len(text)}", as_=as_)


@pytest.fixture
def relays() -> FakeRelays:
    return FakeRelays()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as made:
        yield made


async def customer(relays: FakeRelays, stack: AsyncExitStack, **options: object) -> SwarmClient:
    client = SwarmClient(relays, SecretKey.generate(), **options)  # type: ignore[arg-type]
    await stack.enter_async_context(client)
    assert await client.caught_up()
    return client


def text_of(outcome: object) -> str:
    return outcome.text if isinstance(outcome, Answer) else repr(outcome)


async def test_a_liar_among_honest_providers_delivers_nothing_and_is_left_out(relays, stack) -> None:
    honest = [FakeProvider(relays, now=time.time(), slots=2) for _ in range(5)]
    liar = Liar(relays, now=time.time(), slots=2)
    swarm = await customer(relays, stack)
    outcomes = await swarm.map([f"question {n}, which is long enough" for n in range(100)])
    wrong = [text_of(o) for n, o in enumerate(outcomes) if text_of(o) != f"echo: question {n}, which is long enough"]
    assert len(wrong) <= 1
    assert swarm.reputation.is_out(liar.public, time.time())
    assert not any(swarm.reputation.is_out(one.public, time.time()) for one in honest)
    assert any("compared" in o.verified for o in outcomes if isinstance(o, Answer))
    # A second opinion is a request like any other.
    assert len(relays.requests()) <= 100 * 1.05 + 12
    told = why(swarm.reputation.get(liar.public), time.time())
    out, *reasons = [line for line in told if line.startswith("excluded") or " ago" in line]
    assert out.startswith("excluded") and "lost" in reasons[0]


async def test_who_answers_beside_mute_keys_is_remembered_before_any_check_of_it_ends(relays, stack) -> None:
    known = FakeProvider(relays, now=time.time())
    for _ in range(3):
        FakeProvider(relays, now=time.time(), silent=True)
    swarm = await customer(relays, stack)
    asking = asyncio.create_task(swarm.map([f"question {n}" for n in range(8)]))
    await until(lambda: swarm.reputation.has_answered(known.public, time.time()))
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert list(swarm.reputation.answering(time.time())) == [known.public]
    assert not swarm.reputation.was_checked(known.public)


@pytest.mark.parametrize(
    "used", [None, ModelUsed(MODEL.id), ModelUsed(MODEL.id, "ab" * 32), ModelUsed("another")], ids=str
)
@pytest.mark.parametrize("asked", [None, f"sha256:{MODEL.sha256}"], ids=["any", "pinned"])
async def test_an_answer_by_no_weights_or_others_than_its_provider_offers_is_none(relays, stack, used, asked) -> None:
    for _ in range(2):
        FakeProvider(relays, now=time.time(), slots=2)
    liar = Liar(relays, now=time.time(), slots=2)
    liar.used = used
    swarm = await customer(relays, stack)
    outcomes = await swarm.map([JobSpec(f"question {n}", model=asked) for n in range(40)])
    assert [text_of(outcome) for outcome in outcomes] == [f"echo: question {n}" for n in range(40)]
    assert len(liar.received) <= 12


async def test_one_s_own_machine_is_believed_without_looking(relays, stack) -> None:
    mine = Liar(relays, now=time.time(), slots=4)
    FakeProvider(relays, now=time.time(), slots=4)
    swarm = await customer(relays, stack, settings=SwarmSettings(own=frozenset({mine.public})))
    outcomes = await swarm.map([f"question {n}" for n in range(4)])
    assert {o.provider for o in outcomes if isinstance(o, Answer)} == {mine.public}
    assert len(relays.requests()) == 4


async def test_a_vote_asks_until_most_agree(relays, stack) -> None:
    for _ in range(3):
        FakeProvider(relays, now=time.time())
    Liar(relays, now=time.time())
    swarm = await customer(relays, stack)
    for n in range(6):
        answer = await swarm.complete(JobSpec(f"vote {n}", votes=3))
        assert answer.text == f"echo: vote {n}" and "majority" in answer.verified


class OwnModel:
    """Stands for a model of this machine: it would answer as the honest fakes do."""

    def __init__(self) -> None:
        self.read = 0

    def holds(self) -> frozenset[str]:
        return frozenset({MODEL.sha256})

    async def score(self, asked: JobSpec, text: str) -> Score | None:
        self.read += 1
        return Score((0,) * 8 if text == f"echo: {asked.prompt}" else (90,) * 8, 0)


async def test_who_holds_the_model_asks_nobody_else(relays, stack) -> None:
    FakeProvider(relays, now=time.time())
    liar = Liar(relays, now=time.time())
    model = OwnModel()
    swarm = await customer(relays, stack, rescorer=model)
    outcomes = await swarm.map([f"number {n}" for n in range(12)])
    assert [text_of(o) for o in outcomes] == [f"echo: number {n}" for n in range(12)]
    assert model.read >= 10 and swarm.reputation.is_out(liar.public, time.time())
    assert any("rescored" in o.verified for o in outcomes if isinstance(o, Answer))


class BrokenModel(OwnModel):
    """Stands for a model of this machine that fails at everything."""

    async def score(self, asked: JobSpec, text: str) -> Score | None:
        self.read += 1
        raise RuntimeError("out of order")


async def test_where_the_own_model_fails_others_are_asked_instead(relays, stack) -> None:
    honest = [FakeProvider(relays, now=time.time()) for _ in range(2)]
    broken = BrokenModel()
    swarm = await customer(relays, stack, rescorer=broken)
    outcomes = await asyncio.wait_for(swarm.map([f"question {n}" for n in range(20)]), 20)
    assert [text_of(o) for o in outcomes] == [f"echo: question {n}" for n in range(20)]
    assert broken.read > 0 and any("compared" in o.verified for o in outcomes if isinstance(o, Answer))
    assert not any(swarm.reputation.is_out(one.public, time.time()) for one in honest)


async def test_what_was_seen_survives_the_program(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "pylon.db", [SWARM])
    reputation = Reputation()
    for _ in range(4):
        reputation.note("a", Seen.PASSED, 1_000.0)
    assert reputation.note("b", Seen.LOST, 1_000.0, "two other providers agreed on a different answer")
    await reputation_store.save(database, reputation)
    again = await reputation_store.load(database, 2_000.0)
    assert again.is_proven("a") and again.is_out("b", 2_000.0) and not again.is_out("b", 1_000.0 + 86_401.0)
    assert again.get("b").reasons[0].detail == "two other providers agreed on a different answer"  # type: ignore[union-attr]
    await database.close()


async def test_one_start_with_a_date_far_ahead_does_not_make_a_customer_forget_all_that_it_saw(
    tmp_path: Path,
) -> None:
    database = await Database.open(tmp_path / "pylon.db", [SWARM])
    reputation = Reputation()
    reputation.note("faded", Seen.PASSED, 1_000.0)
    now = 1_000.0 + reputation_store.FORGOTTEN_S
    reputation.note("caught", Seen.LOST, now)
    await reputation_store.save(database, reputation)
    await reputation_store.load(database, now + 10 * reputation_store.FORGOTTEN_S)
    again = await reputation_store.load(database, now)
    assert again.is_out("caught", now) and again.get("faded") is None
    await database.close()


async def test_of_strangers_without_end_the_last_ones_are_remembered(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(reputation_module, "REMEMBERED", 10)
    database = await Database.open(tmp_path / "pylon.db", [SWARM])
    reputation = Reputation()
    for n in range(100):
        reputation.note(f"{n}", Seen.PASSED, 1_000.0 + n)
        reputation.note("known", Seen.PASSED, 1_000.0 + n)
        if n % 7 == 0:
            await reputation_store.save(database, reputation)
    await reputation_store.save(database, reputation)
    rows = await database.fetch_all("SELECT provider FROM swarm_reputation")
    kept = {"known", *(f"{n}" for n in range(91, 100))}
    assert {row["provider"] for row in rows} == kept
    again = await reputation_store.load(database, 2_000.0)
    again.note("new", Seen.PASSED, 2_000.0)
    assert again.get("91") is None and again.get("92") is not None and again.is_proven("known")
    monkeypatch.setattr(reputation_module, "REMEMBERED", 20)
    later = 1_092.0 + reputation_store.FORGOTTEN_S
    again.note("later", Seen.PASSED, later)
    await reputation_store.save(database, again)
    assert (await reputation_store.load(database, later + BELIEVED_S - 1)).get("92") is not None
    assert (await reputation_store.load(database, later + BELIEVED_S)).get("92") is None
    rows = await database.fetch_all("SELECT provider FROM swarm_reputation")
    assert {row["provider"] for row in rows} == {"known", "new", "later", *(f"{n}" for n in range(93, 100))}
    await database.close()


async def test_a_run_that_was_dropped_is_taken_up_and_asks_nothing_twice(relays, stack, tmp_path: Path) -> None:
    FakeProvider(relays, now=time.time(), slots=50, delay_s=0.2)
    database, group = await stack.enter_async_context(opened_database(tmp_path / "pylon.db", SWARM))
    specs = [JobSpec(f"line {n}") for n in range(30)]
    secret, plain = SecretKey.generate(), SwarmSettings(checks=None)

    async def journal(*, resume: bool) -> RunJournal:
        return await RunJournal.open(database, group, SystemClock(), specs, resume=resume)

    first = SwarmClient(relays, secret, settings=plain)
    await first.start()
    asking = asyncio.create_task(first.map(specs, journal=await journal(resume=False)))
    await until(lambda: len(relays.requests()) >= 20)
    # As kill -9 would: nothing is cancelled or written down, nobody says goodbye.
    stack.callback(asking.cancel)
    first._upkeep._tasks.cancel()
    first._parts.outbox._waiting.clear()
    sent = {event.id for event in relays.requests()}
    second = await stack.enter_async_context(SwarmClient(relays, secret, settings=plain))
    await second.caught_up()
    outcomes = await second.map(specs, journal=await journal(resume=True))
    assert [text_of(o) for o in outcomes] == [f"echo: line {n}" for n in range(30)]
    assert len(relays.requests()) == 30 and sent <= {event.id for event in relays.requests()}
    third = await second.map(specs, journal=await journal(resume=True))
    assert third == outcomes and len(relays.requests()) == 30


async def test_what_an_earlier_process_took_back_is_not_adopted_and_held_against_nobody(
    relays, stack, tmp_path: Path
) -> None:
    slow = FakeProvider(relays, now=time.time(), silent=True)
    database, group = await stack.enter_async_context(opened_database(tmp_path / "pylon.db", SWARM))
    specs, secret = [JobSpec("a story", stream=True)], SecretKey.generate()
    first = SwarmClient(relays, secret)
    await first.start()
    journal = await RunJournal.open(database, group, SystemClock(), specs, resume=False)
    asking = asyncio.create_task(first.map(specs, journal=journal))
    await until(lambda: slow.received)
    # As kill -9 would, just after it was cancelled there.
    asking.cancel()
    first._upkeep._tasks.cancel()
    slow.finish = Finish.CANCELLED
    slow.result(relays.requests()[0], slow.received[0], "")
    second = await stack.enter_async_context(SwarmClient(relays, secret))
    await second.caught_up()
    honest = FakeProvider(relays, now=time.time())
    slow.withdraw()
    journal = await RunJournal.open(database, group, SystemClock(), specs, resume=True)
    # At once, and not when an answer would be overdue.
    async with asyncio.timeout(30):
        [outcome] = await second.map(specs, journal=journal)
    assert isinstance(outcome, Answer)
    assert (outcome.provider, outcome.text) == (honest.public, "echo: a story")
    assert second.reputation.get(slow.public) is None


async def test_what_is_looked_at_once_more_is_still_there_after_a_kill(relays, stack, tmp_path: Path) -> None:
    one = FakeProvider(relays, now=time.time())
    database, group = await stack.enter_async_context(opened_database(tmp_path / "pylon.db", SWARM))
    specs = [JobSpec(f"line {n}") for n in range(2)]
    journal = await RunJournal.open(database, group, SystemClock(), specs, resume=False)
    swarm = await customer(relays, stack)
    reopened: list[Unfill] = []

    def reopen(progress: Progress) -> None:
        if progress.answered == 1 and not reopened:
            [run] = swarm._parts.runs.by_number.values()
            place = next(place for place, outcome in enumerate(run.outcomes) if outcome is not None)
            # The second look is never over.
            one.silent = True
            reopened.append(Unfill(run.number, place, bad=False))
            asyncio.get_running_loop().call_soon(swarm._parts.conductor.follow, list(reopened))

    asking = asyncio.create_task(swarm.map(specs, journal=journal, on_progress=reopen))
    await until(lambda: reopened and None in next(iter(swarm._parts.runs.by_number.values())).outcomes)
    await asyncio.sleep(0.1)
    # As kill -9 would.
    asking.cancel()
    kept = await (await RunJournal.open(database, group, SystemClock(), specs, resume=True)).kept()
    assert reopened[0].place in kept.answers


async def test_what_is_commanded_together_is_done_before_the_deciders_are_told_more(
    relays, stack, monkeypatch
) -> None:
    swarm = await customer(relays, stack)
    parts, done = swarm._parts, []
    monkeypatch.setattr(parts.outlook, "reconsider", lambda provider: done.append(provider))
    monkeypatch.setattr(parts.runs, "reopen", lambda run, place, bad: done.append(place))
    # A place that is asked again could fail in what follows from the change: then it must be empty already.
    parts.conductor.follow([Changed("provider"), Unfill(1, 7)])
    assert done == [7, "provider"]


async def test_a_place_that_cannot_be_filled_ends_its_run_and_no_other_command(relays, stack, monkeypatch) -> None:
    FakeProvider(relays, now=time.time())
    swarm = await customer(relays, stack)
    parts, fault = swarm._parts, RuntimeError("no room for it")
    broken, whole = Run([JobSpec("lost")]), Run([JobSpec("kept")])
    for run in (broken, whole):
        parts.runs.open(run, deadline=time.monotonic() + 60, priority=0)
    settle = parts.runs.settle

    def fail_for_one(number: int, place: int, outcome: object) -> None:
        if number == broken.number:
            raise fault
        settle(number, place, outcome)  # type: ignore[arg-type]

    monkeypatch.setattr(parts.runs, "settle", fail_for_one)
    parts.conductor.follow([Fail(run.number, 0, Failure.CANCELLED, None, 0) for run in (broken, whole)])
    assert broken.done.is_set() and broken.broken is fault
    assert whole.done.is_set() and whole.broken is None
    assert not swarm._parts.deciders.dispatcher.open


async def test_an_answer_over_which_the_deciders_break_ends_its_run(relays, stack, monkeypatch) -> None:
    FakeProvider(relays, now=time.time())
    swarm = await customer(relays, stack)

    def broken(*_: object, **__: object) -> None:
        raise RecursionError

    monkeypatch.setattr(swarm._parts.deciders._coordinator, "answered", broken)
    with pytest.raises(RecursionError):
        await asyncio.wait_for(swarm.map(["a question"]), 10)
