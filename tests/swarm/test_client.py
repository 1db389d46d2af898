"""The customer on fake relays with fake providers: real keys, real encryption, no network, no model."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from pylon.errors import MalformedError, UnreachableError
from pylon.jobs.announcement import OfferedModel
from pylon.jobs.answer import Address, Amount
from pylon.jobs.codes import ErrorCode
from pylon.jobs.feedback import Feedback, Status, shared_error_draft
from pylon.jobs.kinds import ANNOUNCEMENT, FEEDBACK, RESULT_KINDS, RLM_REQUEST, TEXT_REQUEST
from pylon.jobs.request import ReceivedRequest
from pylon.jobs.result import Finish
from pylon.money.msat import ZERO, Msat
from pylon.money.price import Price
from pylon.nostr.event import Event, EventDraft
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.swarm import compose
from pylon.swarm.checks.reputation import Seen
from pylon.swarm.client import SwarmClient
from pylon.swarm.dispatch.messages import Failure, Refused
from pylon.swarm.flights import Flight
from pylon.swarm.job import Answer, JobFailed, JobSpec, Progress
from pylon.swarm.rows import Row
from pylon.swarm.runs import open_runs
from pylon.swarm.runs.coordinator import Coordinator
from pylon.swarm.runs.journal import digest_of
from pylon.swarm.runs.places import Piece
from pylon.swarm.settings import CheckSettings, DispatchSettings, SwarmSettings
from pylon.swarm.wire import inbox, publishing, requests
from pylon.swarm.wire.meaning import Partial
from tests.swarm.fakes import MODEL, FakeProvider, FakeRelays, all_goes_on
from tests.waiting import until

type Customer = Callable[..., Awaitable[SwarmClient]]


@pytest.fixture
def relays() -> FakeRelays:
    return FakeRelays()


@pytest.fixture
async def customer(relays: FakeRelays) -> AsyncIterator[Customer]:
    async with AsyncExitStack() as stack:

        async def start(dispatch: DispatchSettings | None = None, **settings: Any) -> SwarmClient:
            rules = SwarmSettings(dispatch=dispatch or DispatchSettings(), **{"checks": None, **settings})
            client = SwarmClient(relays, SecretKey.generate(), settings=rules)
            await stack.enter_async_context(client)
            assert await client.caught_up()
            return client

        yield start


def provider(relays: FakeRelays, **behaviour: Any) -> FakeProvider:
    return FakeProvider(relays, now=time.time(), **behaviour)


async def test_an_answer_says_who_gave_it_with_which_weights_and_at_what_cost(relays, customer) -> None:
    one = provider(relays)
    swarm = await customer()
    answer = await swarm.complete("How many legs has a spider?", max_tokens=16, temperature=0.0)
    assert answer.text == "echo: How many legs has a spider?"
    assert (answer.provider, answer.model, answer.sha256) == (one.public, MODEL.id, MODEL.sha256)
    assert (answer.attempts, answer.paid, answer.run_ms, answer.verified) == (1, 0, 50, ("signature",))
    assert relays.stored[answer.request_id].kind == RLM_REQUEST
    assert relays.stored[answer.result_id].pubkey == one.public
    [received] = one.received
    assert received.private and received.job.parameters.max_tokens == 16
    assert received.job.expiration is not None and 100 < received.job.expiration - time.time() < 125


async def test_a_late_piece_of_an_attempt_that_was_given_up_is_not_shown(relays, customer) -> None:
    one = provider(relays, delay_s=60.0)
    swarm = await customer()
    pieces: list[str] = []
    asking = asyncio.create_task(swarm.single(JobSpec("a question", stream=True), partial=pieces.append))
    await until(lambda: one.received)
    parts = swarm._parts
    [flight] = parts.flights
    event = relays.stored[flight.request]
    parts.answers.heard(event, flight, Partial(flight.attempt, "one"))
    parts.deciders.tell(Refused(flight.attempt, ErrorCode.BUSY))
    parts.answers.heard(event, flight, Partial(flight.attempt, "one, and another"))
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert pieces == ["one"]


async def test_for_a_reader_that_pauses_the_latest_text_alone_is_kept(relays, customer) -> None:
    one = provider(relays, silent=True)
    swarm = await customer()
    answers = swarm.stream("a question")
    reading = asyncio.create_task(anext(answers))
    await until(lambda: one.received)
    [flight] = swarm._parts.flights
    event = relays.stored[flight.request]
    for text in ("one", "one, two", "one, two, three"):
        swarm._parts.answers.heard(event, flight, Partial(flight.attempt, text))
    one.result(event, one.received[0], "one, two, three, four")
    assert await reading == "one, two, three"
    assert [answer.text async for answer in answers] == ["one, two, three, four"]


@pytest.mark.parametrize("checks", [None, CheckSettings(share=0.0)], ids=["unchecked", "checked"])
async def test_who_says_unasked_that_a_job_was_taken_back_has_failed_it(relays, customer, checks) -> None:
    liar = provider(relays)
    liar.finish = Finish.CANCELLED
    swarm = await customer(checks=checks)
    honest = provider(relays, seen=False)

    async def comes() -> None:
        await until(lambda: liar.received)
        honest.announce()
        honest.beat()

    answer, _ = await asyncio.gather(swarm.complete("a question", stream=True), comes())
    assert answer.provider == honest.public
    record = swarm.reputation.get(liar.public)
    seen = [] if record is None else [reason.seen for reason in record.reasons]
    assert set(seen) == ({Seen.FAULTY} if checks else set())


async def test_an_answer_that_cannot_be_read_by_a_fault_of_ours_keeps_no_other_from_being_heard(
    relays, customer, monkeypatch
) -> None:
    provider(relays, slots=4)
    read, failed = inbox.read_answer, []

    def reads(event, *rest):
        if not failed:
            failed.append(event.id)
            raise ValueError("a fault of ours")
        return read(event, *rest)

    monkeypatch.setattr(inbox, "read_answer", reads)
    swarm = await customer()
    first = asyncio.create_task(swarm.complete("the first"))
    await until(lambda: failed)
    assert (await asyncio.wait_for(swarm.complete("the second"), 20.0)).text == "echo: the second"
    # Not by a look at what relays have stored.
    assert all_goes_on(swarm)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def test_a_private_request_shows_nothing_of_the_prompt(relays, customer) -> None:
    provider(relays)
    swarm = await customer()
    await swarm.complete("a very private question", system="a very private rule", model=MODEL.id)
    for event in relays.stored.values():
        if event.kind != ANNOUNCEMENT:
            assert b"private" not in event.to_json() or event.pubkey in relays.providers
    [request] = relays.requests()
    assert b"private" not in request.to_json() and MODEL.id.encode() not in request.to_json()


async def test_answers_come_in_order_over_one_subscription_each_way(relays, customer) -> None:
    providers = [provider(relays, slots=2, delay_s=0.01) for _ in range(5)]
    swarm = await customer(publishing=8)
    seen: list[Progress] = []
    outcomes = await swarm.map([f"question {n}" for n in range(60)], on_progress=seen.append)
    assert [o.text if isinstance(o, Answer) else o for o in outcomes] == [f"echo: question {n}" for n in range(60)]
    assert all(p.received for p in providers)
    assert len(relays.requests()) == 60
    assert len(relays.subscriptions) == 2
    assert relays.most_publishing <= 8
    assert [p.answered for p in seen] == list(range(1, 61)) and seen[-1].total == 60
    assert await swarm.map([]) == []


@pytest.mark.parametrize(("said_before_s", "moved"), [(0, True), (300, False)], ids=["just now", "long ago"])
async def test_a_job_that_is_told_to_wait_goes_to_somebody_idle(relays, customer, said_before_s, moved) -> None:
    crowded = provider(relays, delay_s=1.0, acknowledge=True, wait_s=60.0)
    crowded.said_before_s = said_before_s
    idle = provider(relays)
    crowded.beat(after=1, tokens_out_per_s=1_000.0)
    idle.beat(after=1, tokens_out_per_s=100.0)
    swarm = await customer()
    answer = await swarm.complete("How many legs has a spider?", max_tokens=200)
    assert answer.provider == (idle.public if moved else crowded.public)
    assert answer.attempts == 1 + moved
    # What is still to go out goes out.
    await swarm.close()
    assert len(crowded.cancelled) == moved


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """How many questions the deciders were given each time, and how many they were told to follow."""
    given: list[tuple[int, int]] = []
    ask = Coordinator.ask

    def counted(self: Coordinator, run: int, questions: list[tuple[int, JobSpec]], *args: Any, coming: int) -> Any:
        given.append((len(questions), coming))
        return ask(self, run, questions, *args, coming=coming)

    monkeypatch.setattr(Coordinator, "ask", counted)
    monkeypatch.setattr(open_runs, "AT_ONCE", 5)
    return given


async def test_a_long_list_is_asked_in_pieces_and_it_is_told_what_follows(relays, customer, asked) -> None:
    FakeProvider(relays, now=time.time(), slots=2)
    client = await customer()
    answers = await client.map([f"question {n}" for n in range(12)])
    assert [answer.text for answer in answers] == [f"echo: question {n}" for n in range(12)]
    assert asked == [(5, 7), (5, 2), (2, 0)]
    dispatcher = client._parts.deciders.dispatcher
    assert (dispatcher.unfilled, dispatcher.open) == (0, 0)


async def test_a_run_that_is_over_between_two_pieces_asks_no_more_and_nothing_is_expected(
    relays, customer, asked
) -> None:
    client = await customer()
    asking = asyncio.create_task(client.map([f"question {n}" for n in range(12)]))
    while not asked:
        await asyncio.sleep(0)
    assert client._parts.deciders.dispatcher.unfilled == 12
    client._parts.runs.cancel_all()
    assert {outcome.reason for outcome in await asking} == {Failure.CANCELLED}
    assert asked == [(5, 7)]
    assert client._parts.deciders.dispatcher.unfilled == 0


async def test_live_events_that_relays_lose_are_found_among_the_stored_and_nothing_runs_twice(
    relays, customer
) -> None:
    provider(relays, slots=100)
    relays.loses = lambda event: event.kind in RESULT_KINDS
    swarm = await customer()
    outcomes = await swarm.map([f"question {n}" for n in range(30)])
    assert all(isinstance(o, Answer) and o.attempts == 1 for o in outcomes)
    assert len(relays.requests()) == 30
    assert len(relays.queries) <= 4


async def test_a_lost_answer_is_found_while_a_relay_does_not_say_what_strangers_announce(
    relays, customer, monkeypatch
) -> None:
    served, answers = provider(relays), relays.query

    async def query(filters: tuple[Filter, ...], **options: Any) -> list[Event]:
        if any(ANNOUNCEMENT in (sought.kinds or ()) for sought in filters):
            await asyncio.sleep(60.0)
        return await answers(filters, **options)

    swarm = await customer()
    await asyncio.sleep(0.1)
    monkeypatch.setattr(relays, "query", query)
    provider(relays, seen=False).beat()
    await asyncio.sleep(0.6)
    relays.loses = lambda event: event.kind in RESULT_KINDS
    answer = await asyncio.wait_for(swarm.complete("Found?"), 10.0)
    assert (answer.provider, answer.attempts) == (served.public, 1)


async def test_an_answer_from_anybody_else_is_no_answer(relays, customer) -> None:
    honest = provider(relays, silent=True)
    impostor = SecretKey.generate()
    # What is pushed is all there is.
    relays.query = lambda *_, **__: asyncio.sleep(0, [])
    swarm = await customer()
    asking = asyncio.create_task(swarm.complete("Who are you?"))
    await until(lambda: honest.received)
    [request] = relays.requests()
    # Both come in one batch.
    honest.result(request, honest.received[0], "I am not who you asked", as_=impostor)
    honest.result(request, honest.received[0], "I am")
    answer = await asyncio.wait_for(asking, 20.0)
    assert (answer.text, answer.provider) == ("I am", honest.public)


async def test_an_answer_that_cannot_be_read_sends_the_job_elsewhere(relays, customer) -> None:
    broken, good = provider(relays, silent=True), provider(relays)
    swarm = await customer(allow=frozenset({broken.public}))
    swarm.change_circle(allow=None, own=frozenset())
    asking = asyncio.create_task(swarm.map(["first"] + ["more"] * 3))
    await until(lambda: broken.received)
    for received in broken.received:
        tags = (("e", received.id), ("p", received.customer), ("encrypted",))
        relays.give(broken.secret.sign(EventDraft(6940, "nonsense", tags, int(time.time()))))
    outcomes = await asking
    assert {o.provider for o in outcomes if isinstance(o, Answer)} == {good.public}
    assert len(outcomes) == 4


async def test_a_silent_provider_loses_its_job_to_another_and_hears_of_it(relays, customer) -> None:
    dead = provider(relays, silent=True)
    swarm = await customer(DispatchSettings(ack_s=0.3))
    asking = asyncio.create_task(swarm.complete("Anybody?"))
    await until(lambda: dead.received)
    alive = provider(relays)
    answer = await asking
    assert (answer.provider, answer.attempts) == (alive.public, 2)
    await until(lambda: dead.cancelled)
    assert dead.cancelled == [dead.received[0].id]


async def test_an_acknowledged_job_is_not_given_to_anybody_else(relays, customer) -> None:
    for _ in range(3):
        provider(relays, delay_s=0.8, acknowledge=True)
    swarm = await customer(DispatchSettings(ack_s=0.3, hedge_share=0.0))
    answer = await swarm.complete("Slowly, please")
    assert answer.attempts == 1 and len(relays.requests()) == 1


async def test_a_refused_job_goes_elsewhere_and_each_slot_has_its_own_error(relays, customer) -> None:
    provider(relays, refuse=ErrorCode.TOO_LARGE, slots=50)
    good = provider(relays, slots=50)
    swarm = await customer()
    rng = random.Random(1)
    bulky = "".join(chr(rng.randrange(0x4E00, 0x9FA5)) for _ in range(20_000))
    outcomes = await swarm.map(["fine", bulky, "fine too", JobSpec(top_p=7.0)])
    assert [type(o) for o in outcomes] == [Answer, JobFailed, Answer, JobFailed]
    assert {o.provider for o in outcomes if isinstance(o, Answer)} == {good.public}
    large, malformed = outcomes[1], outcomes[3]
    assert isinstance(large, JobFailed) and large.reason is Failure.TOO_LARGE
    assert "65,536 bytes at most" in str(large)
    assert isinstance(malformed, JobFailed) and malformed.reason is Failure.MALFORMED


async def test_jobs_that_are_refused_together_in_one_event_all_go_elsewhere(relays, customer) -> None:
    crowded = provider(relays, slots=50, silent=True)
    swarm = await customer(DispatchSettings(ack_s=30.0, hedge_share=0.0))
    asked = asyncio.create_task(swarm.map([f"job {number}" for number in range(5)]))
    async with asyncio.timeout(10):
        while len(relays.requests()) < 5:
            await asyncio.sleep(0.01)
    good = provider(relays, slots=50)
    first = relays.requests()
    stranger = Address("5" * 64, "6" * 64)
    about = [stranger, *(Address(event.id, event.pubkey) for event in first)]
    now = int(time.time())
    draft = shared_error_draft(about, ErrorCode.BUSY, "full", created_at=now, expiration=now + 60)
    relays.give(crowded.secret.sign(draft))
    outcomes = await asyncio.wait_for(asked, 20)
    assert [type(outcome) for outcome in outcomes] == [Answer] * 5
    assert {outcome.provider for outcome in outcomes} == {good.public}


async def test_a_slot_that_no_provider_can_hold_says_so_and_the_others_stand(relays, customer) -> None:
    provider(relays, slots=4)
    swarm = await customer(DispatchSettings(patience_s=0.2))
    [short, long] = await swarm.map(["short", "".join(map("line {}\n".format, range(10_000)))])
    assert isinstance(short, Answer)
    assert isinstance(long, JobFailed) and long.reason is Failure.NO_PROVIDER
    assert "1 with too short a context" in str(long)


async def test_a_job_that_fails_raises_its_typed_error(relays, customer) -> None:
    provider(relays, refuse=ErrorCode.UNSUPPORTED_PARAM)
    swarm = await customer()
    with pytest.raises(JobFailed) as caught:
        await swarm.complete("No?")
    assert (caught.value.reason, caught.value.code, caught.value.exit_code) == (
        Failure.REFUSED,
        ErrorCode.UNSUPPORTED_PARAM,
        5,
    )


async def test_nobody_alive_says_who_was_seen_and_why_they_do_not_do(relays, customer) -> None:
    provider(relays, model=OfferedModel("another"))
    paused = provider(relays, seen=False)
    paused.announce()
    paused.beat(paused="battery")
    provider(relays, seen=False).announce()
    swarm = await customer(DispatchSettings(patience_s=0.2))
    with pytest.raises(UnreachableError) as caught:
        await swarm.complete("Anybody?", model=MODEL.id)
    assert "3 providers heard of, 2 alive; 1 paused; 1 without this model" in str(caught.value)
    assert "Available: another, fake-model;" in caught.value.hint


async def test_where_nobody_is_heard_of_a_relay_that_refuses_us_is_named(relays, customer) -> None:
    relays.refusing = ["ws://fake.invalid restricted: members only"]
    client = await customer(DispatchSettings(patience_s=0.2))
    with pytest.raises(UnreachableError) as caught:
        await client.complete("anyone?")
    assert caught.value.hint == "No relay tells us who is there: ws://fake.invalid restricted: members only"
    provider(relays, model=OfferedModel("another"))
    with pytest.raises(UnreachableError) as caught:
        await client.complete("anyone?", model=MODEL.id)
    assert "restricted" not in caught.value.hint


async def test_who_offers_too_little_hears_so(relays, customer) -> None:
    FakeProvider(relays, now=time.time(), price=Price(Msat(7)), network="play")
    client = await customer(DispatchSettings(patience_s=0.2))
    with pytest.raises(UnreachableError, match="1 provider heard of, 1 alive; 1 too expensive") as caught:
        await client.complete("anyone?")
    # 7 bytes and a chat template, rounded up, and the answer that a job has which names none.
    asked = "The cheapest of these charges up to 7 msat for 512 prompt tokens and 512 answer tokens."
    assert f"{asked} You offer at most 0 msat per job" in caught.value.hint
    assert "bid_msat" in caught.value.hint and "max_tokens" not in caught.value.hint
    FakeProvider(relays, now=time.time(), model=OfferedModel("free"))
    [answer, dear] = await client.map([JobSpec("anyone?", model="free"), JobSpec("anyone?", model=MODEL.id)])
    assert isinstance(answer, Answer) and isinstance(dear, JobFailed)
    assert dear.reason is Failure.NO_PROVIDER and dear.hint == caught.value.hint


async def test_what_is_offered_nothing_for_is_quoted_by_its_own_size(relays, customer) -> None:
    FakeProvider(relays, now=time.time(), price=Price(Msat(1), Msat(1_000), Msat(2_000)), network="play")
    client = await customer(DispatchSettings(patience_s=0.2))
    FakeProvider(relays, now=time.time(), model=OfferedModel("free"))
    jobs = [JobSpec("a" * size, model=MODEL.id, max_tokens=most) for size, most in ((10, 5), (1_000, 6))]
    [short, long, _] = await client.map([*jobs, JobSpec("b", model="free")])
    assert isinstance(short, JobFailed) and isinstance(long, JobFailed)
    assert "up to 523 msat for 512 prompt tokens and 5 answer tokens" in short.hint
    assert "up to 2,061 msat for 2,048 prompt tokens and 6 answer tokens" in long.hint


async def test_who_was_found_lying_counts_as_nobody(relays, customer) -> None:
    liar = provider(relays)
    client = await customer(DispatchSettings(patience_s=0.2), checks=CheckSettings())
    for _ in range(5):
        client.reputation.note(liar.public, Seen.FAULTY, time.time(), "made up")
    client.reconsider(liar.public)
    with pytest.raises(UnreachableError, match="1 alive; 1 excluded for wrong answers"):
        await client.complete("anyone?")
    assert client.why_not(JobSpec("anyone?"), client.directory.get(liar.public)).startswith("excluded")


async def test_a_provider_that_comes_while_a_job_waits_gets_it(relays, customer) -> None:
    swarm = await customer()
    asking = asyncio.create_task(swarm.complete("Anybody?"))
    await asyncio.sleep(0.2)
    late = provider(relays)
    assert (await asking).provider == late.public


async def test_a_withdrawn_provider_is_asked_no_more(relays, customer) -> None:
    leaving, staying = provider(relays, slots=9), provider(relays, slots=9)
    swarm = await customer()
    leaving.withdraw()
    await until(lambda: len(swarm.directory) == 1)
    outcomes = await swarm.map([str(n) for n in range(30)])
    assert [o.provider for o in outcomes if isinstance(o, Answer)] == [staying.public] * 30


async def test_announcements_that_a_relay_left_out_are_asked_for_by_author(relays, customer) -> None:
    hidden = provider(relays, seen=False)
    hidden.beat()
    relays.loses = lambda event: event.kind == ANNOUNCEMENT
    swarm = await customer()
    assert len(swarm.directory) == 0
    hidden.announce()
    swarm._parts.presence._asked_for.clear()
    assert (await swarm.complete("Found?")).provider == hidden.public


async def test_a_plain_provider_is_asked_in_the_open_only_when_that_is_allowed(relays, customer) -> None:
    dvm = FakeProvider(relays, now=time.time(), seen=False)
    tags = (("d", "dvm"), ("k", str(TEXT_REQUEST)))
    relays.give(dvm.secret.sign(EventDraft(ANNOUNCEMENT, "{}", tags, int(time.time()))))
    careful = await customer(DispatchSettings(patience_s=0.2))
    with pytest.raises(UnreachableError, match="1 reading only the open form"):
        await careful.complete("a question")
    assert relays.requests() == []
    swarm = await customer(plain=True)
    answer = await swarm.complete("a question")
    assert answer.text == "echo: a question"
    [request] = relays.requests()
    assert request.kind == TEXT_REQUEST and request.tag("i") == "a question"
    assert request.tag("bid") == "0", "one that wants to be paid can decline before it works"
    assert relays.stored[answer.result_id].kind == 6050


class Charging(FakeProvider):
    """Wants to be paid before it does anything."""

    async def _answer(self, event: Event, request: ReceivedRequest) -> None:
        address = Address(request.id, request.customer, request.private)
        self._say(Feedback(address, Status.PAYMENT_REQUIRED, amount=Amount(Msat(1_000), "lnbcrt1")))


async def test_a_plain_provider_that_wants_to_be_paid_is_told_to_stop_and_is_asked_no_more(relays, customer) -> None:
    dvm = Charging(relays, now=time.time(), seen=False)
    tags = (("d", "dvm"), ("k", str(TEXT_REQUEST)))
    relays.give(dvm.secret.sign(EventDraft(ANNOUNCEMENT, "{}", tags, int(time.time()))))
    swarm = await customer(DispatchSettings(patience_s=0.2), plain=True)
    with pytest.raises(JobFailed, match="asking to be paid without announcing a price") as failure:
        await swarm.complete("a question")
    assert (failure.value.reason, failure.value.code) == (Failure.UNPAID, None), "no code is put into its mouth"
    await until(lambda: dvm.cancelled)
    assert dvm.cancelled == [request.id for request in dvm.received]
    with pytest.raises(UnreachableError, match="1 asking to be paid without announcing a price"):
        await swarm.complete("another question")
    assert len(dvm.received) == 1


async def test_a_provider_that_names_no_price_is_offered_nothing_and_a_free_one_is_told_of_no_bid(
    relays, customer
) -> None:
    silent, free = provider(relays, price=None, network=""), provider(relays)
    for one, bid in ((silent, ZERO), (free, None)):
        swarm = await customer(allow=frozenset({one.public}))
        await swarm.complete("a question")
        assert [request.job.bid for request in one.received] == [bid]


async def test_a_chat_and_a_schema_reach_the_provider_as_they_were(relays, customer) -> None:
    one = provider(relays)
    swarm = await customer()
    chat = (("user", "Hello"), ("assistant", "Hi"), ("user", "And again?"))
    await swarm.complete(JobSpec(messages=chat, schema={"type": "object"}, stop=("\n",), seed=7))
    [received] = one.received
    asked = received.job.parameters
    assert asked.messages and asked.format == "json_schema" and asked.schema == '{"type":"object"}'
    assert (asked.stop, asked.seed) == (("\n",), 7)


async def test_a_cancelled_map_cancels_its_jobs_at_the_providers(relays, customer) -> None:
    one = provider(relays, slots=4, delay_s=30)
    swarm = await customer()
    asking = asyncio.create_task(swarm.map(["a", "b", "c"]))
    await until(lambda: len(one.received) >= 3)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until(lambda: len(one.cancelled) == 3)
    assert sorted(one.cancelled) == sorted(received.id for received in one.received)
    cancellations = [event for event in relays.stored.values() if event.kind == 5]
    assert len(cancellations) == 1


async def test_runs_that_end_in_one_moment_are_all_cancelled_at_the_providers(relays, customer) -> None:
    one = provider(relays, slots=8, acknowledge=True, delay_s=30)
    swarm = await customer()
    await asyncio.gather(*(swarm.map([f"question {n}"], deadline_s=0.5) for n in range(4)))
    await until(lambda: len(one.cancelled) >= len(one.received))
    assert len(one.received) >= 4


async def test_closing_ends_what_still_waits(relays, customer) -> None:
    one = provider(relays, delay_s=30)
    swarm = await customer()
    asking = asyncio.create_task(swarm.map(["a"]))
    await until(lambda: one.received)
    await swarm.close()
    [outcome] = await asking
    assert isinstance(outcome, JobFailed) and outcome.reason is Failure.CANCELLED
    assert one.cancelled
    with pytest.raises(UnreachableError):
        await swarm.map(["b"])


async def test_relays_that_take_nothing_make_a_typed_error(relays, customer) -> None:
    provider(relays)
    relays.refuses = lambda event: event.kind == RLM_REQUEST
    swarm = await customer()
    [outcome] = await swarm.map(["a"])
    assert isinstance(outcome, JobFailed) and outcome.reason is Failure.NOT_SENT


async def test_a_key_that_the_relay_does_not_let_in_is_told_so(relays, customer) -> None:
    provider(relays)
    relays.refuses = lambda event: event.kind == RLM_REQUEST
    relays.refusal = "restricted: this relay is for its members"
    swarm = await customer()
    [outcome] = await swarm.map(["a"])
    assert isinstance(outcome, JobFailed) and outcome.reason is Failure.NOT_SENT
    assert "restricted: this relay is for its members" in str(outcome)
    assert "household" in outcome.hint


async def test_a_request_that_relays_may_have_passed_on_is_told_as_unconfirmed(relays, customer, monkeypatch) -> None:
    monkeypatch.setattr(publishing, "PATIENCE_S", 0.05)
    provider(relays)
    relays.mute = set(relays.urls)
    swarm = await customer()
    [outcome] = await swarm.map(["a"])
    assert isinstance(outcome, JobFailed) and outcome.reason is Failure.UNCONFIRMED
    assert str(outcome).startswith("no relay confirmed the request: ") and "did not acknowledge" in str(outcome)
    assert outcome.hint


async def test_what_was_not_paid_says_nothing_of_a_request_that_no_relay_took_after_it(relays, customer) -> None:
    provider(relays, silent=True)
    swarm = await customer()
    asking = asyncio.create_task(swarm.map(["a"]))
    await until(lambda: swarm._parts.flights)
    [flight] = swarm._parts.flights
    swarm._parts.answers.not_paid(flight.slot, "the wallet holds too little")
    relays.refuses = lambda event: event.kind == RLM_REQUEST
    swarm._parts.deciders.tell(Refused(flight.attempt, ErrorCode.BUSY))
    [outcome] = await asking
    assert isinstance(outcome, JobFailed) and outcome.reason is Failure.NOT_SENT
    assert "wallet" not in str(outcome) and relays.refusal in str(outcome)


@pytest.mark.parametrize("broken", ["request_draft", "written"])
async def test_a_job_whose_request_cannot_be_made_fails_at_once_and_the_others_go_out(
    relays, customer, monkeypatch, broken
) -> None:
    provider(relays, slots=4)
    swarm = await customer()

    def draft(spec: JobSpec, *rest: Any, **more: Any) -> EventDraft:
        if spec.prompt == "b" and broken == "request_draft":
            raise ZeroDivisionError
        return compose.request_draft(spec, *rest, **more)

    def rows(self: requests.Requests, flight: Flight, piece: Piece, expires_at: float) -> list[Row]:
        if piece.spec.prompt == "b" and broken == "written":
            raise ZeroDivisionError
        return []

    monkeypatch.setattr(requests, "request_draft", draft)
    monkeypatch.setattr(requests.Requests, "_rows", rows)
    async with asyncio.timeout(5.0):
        first, second, third = await swarm.map(["a", "b", "c"])
    assert isinstance(second, JobFailed) and second.reason is Failure.NOT_SENT
    assert "the request could not be created (ZeroDivisionError)" in str(second) and "a bug in Pylon" in second.hint
    assert (first.text, third.text) == ("echo: a", "echo: c")


@pytest.mark.parametrize("left", [True, False])
async def test_a_request_whose_publication_breaks_counts_as_sent(relays, customer, left) -> None:
    broken: list[str] = []

    def refuses(event: Any) -> bool:
        if event.kind == RLM_REQUEST and not broken:
            broken.append(event.id)
            if left:
                relays.give(event)
            raise KeyError(event.id)
        return False

    relays.refuses = refuses
    provider(relays), provider(relays)
    swarm = await customer(DispatchSettings(ack_s=0.5))
    answer = await asyncio.wait_for(swarm.complete("What is left?"), 10.0)
    assert (answer.text, answer.attempts, len(broken)) == ("echo: What is left?", 1 if left else 2, 1)


def deep(levels: int) -> dict[str, Any]:
    return {"not": deep(levels - 1)} if levels else {}


@pytest.mark.parametrize("schema", [deep(400), {"enum": {1}}, {"const": 2**80}, {1: 2}])
async def test_a_question_that_is_no_json_is_malformed_and_says_so(relays, customer, schema) -> None:
    provider(relays)
    swarm = await customer()
    bad, good = await swarm.map([JobSpec("a", schema=schema), JobSpec("b")])
    assert isinstance(bad, JobFailed) and bad.reason is Failure.MALFORMED
    assert "cannot be written as JSON" in str(bad)
    assert good.text == "echo: b"
    with pytest.raises(MalformedError, match="cannot be written as JSON"):
        await digest_of([JobSpec("a", schema=schema)])


async def test_two_runs_at_once_do_not_mix(relays, customer) -> None:
    provider(relays, slots=4, delay_s=0.01)
    swarm = await customer()
    runs = await asyncio.gather(*(swarm.map([f"{name}{n}" for n in range(10)]) for name in "abc"))
    for name, outcomes in zip("abc", runs, strict=True):
        assert [o.text if isinstance(o, Answer) else o for o in outcomes] == [f"echo: {name}{n}" for n in range(10)]


async def test_payment_asked_by_someone_who_said_to_be_free_sends_the_job_elsewhere(relays, customer) -> None:
    greedy = provider(relays, silent=True)
    swarm = await customer()
    asking = asyncio.create_task(swarm.complete("Free?"))
    await until(lambda: greedy.received)
    honest = provider(relays)
    received = greedy.received[0]
    tags = (("e", received.id), ("p", received.customer), ("status", "payment-required"), ("amount", "1000"))
    relays.give(greedy.secret.sign(EventDraft(FEEDBACK, "", tags, int(time.time()))))
    assert (await asking).provider == honest.public
