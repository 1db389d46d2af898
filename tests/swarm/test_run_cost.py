"""What a run says that it cost is all that receipts charged for it, second opinions among it."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from pylon.clock import SystemClock
from pylon.errors import UnreachableError
from pylon.jobs.answer import Amount
from pylon.jobs.kinds import REQUEST_KINDS
from pylon.jobs.result import JobResult
from pylon.money.accounts.usage import Bounds, quote_bound
from pylon.money.msat import ZERO, Msat
from pylon.money.price import Price
from pylon.nostr.event import Event
from pylon.nostr.keys import SecretKey
from pylon.swarm.client import SwarmClient
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.providers.lack import UNFUNDED
from pylon.swarm.providers.listing import Listing
from pylon.swarm.runs.journal import RunJournal
from pylon.swarm.runs.reservation import CallReservation
from pylon.swarm.schema import SWARM
from pylon.swarm.settings import CheckSettings, DispatchSettings, SwarmSettings
from pylon.swarm.spending.purse import Bill, Offer, Owed
from pylon.swarm.wire import publishing
from tests.opened import opened_database
from tests.swarm.fakes import FakeProvider, FakeRelays
from tests.waiting import until

EACH = Msat(7)
PRICE = Price(EACH)
JOBS = 20


@dataclass
class Till:
    """Stands for a purse: every result is charged alike, and what was charged is remembered by request."""

    receipts: dict[str, int] = field(default_factory=dict)

    def width(self, listing: Listing) -> int | None:
        return None

    def barred(self, listing: Listing) -> str:
        return ""

    def funded(self, listing: Listing) -> bool:
        return True

    def offer(self, listing: Listing, bounds: Bounds, *, bid: Msat, jobs_left: int, left: int | None = None) -> Offer:
        return Offer(listing, bounds, ZERO if listing.price.is_free else EACH, bid)

    def ordered(self, request: str, kind: int, offer: Offer) -> None: ...

    async def unanswered(self, *, at_start: bool) -> list[Owed]:
        return []

    async def charged(self, requests: Sequence[str]) -> dict[str, int]:
        return {request: self.receipts[request] for request in requests if request in self.receipts}

    async def pay(self, bill: Bill, offer: Offer, amount: Amount | None) -> None: ...

    async def accept(self, bill: Bill, offer: Offer, result: JobResult) -> Msat | None:
        self.receipts[bill.request] = int(EACH)
        return EACH


async def test_second_opinions_are_in_the_sum_and_a_run_that_is_taken_up_knows_what_it_has_cost(
    tmp_path: Path,
) -> None:
    relays, till = FakeRelays(), Till()
    for _ in range(3):
        FakeProvider(relays, now=time.time(), slots=20, price=PRICE, network="play")
    settings = SwarmSettings(bid=EACH, checks=CheckSettings(share=0.5))
    specs = [JobSpec(f"question {n}, which is long enough", max_tokens=8) for n in range(JOBS)]
    sums: list[int] = []
    async with AsyncExitStack() as stack:
        database, group = await stack.enter_async_context(opened_database(tmp_path / "pylon.db", SWARM))
        client = SwarmClient(relays, SecretKey.generate(), settings=settings, purse=till)
        await stack.enter_async_context(client)
        await client.caught_up()

        async def mapped(**options: object) -> list[object]:
            journal = await RunJournal.open(database, group, SystemClock(), specs, resume="resume" in options)
            return list(
                await client.map(
                    specs, journal=journal, on_progress=lambda p: sums.append(p.msat), budget_msat=200 * int(EACH)
                )
            )

        outcomes = await mapped()
        assert all(isinstance(outcome, Answer) for outcome in outcomes)
        asked = len(till.receipts) - JOBS
        assert asked >= 3, "the checks asked somebody"
        assert sums[-1] == sum(till.receipts.values()) == (JOBS + asked) * EACH
        assert sum(outcome.paid for outcome in outcomes if isinstance(outcome, Answer)) == JOBS * EACH

        # Nothing is asked again, and what the checks cost is remembered.
        again = await mapped(resume=True)
        assert [replace(a, attempts=1) for a in again if isinstance(a, Answer)] == [
            replace(a, attempts=1) for a in outcomes if isinstance(a, Answer)
        ]
        assert sums[-1] == (JOBS + asked) * EACH


@pytest.mark.parametrize("bid", [ZERO, EACH])
@pytest.mark.parametrize("empty", [False, True])
async def test_ones_own_machine_is_asked_for_nothing_though_it_has_a_price_for_others(bid: Msat, empty: bool) -> None:
    """It was too dear where nothing was bid, and "became dearer" where something was: nobody answered either."""

    class Wallet(Till):
        def width(self, listing: Listing) -> int | None:
            return 0 if empty else None

    relays, till = FakeRelays(), Wallet()
    own = FakeProvider(relays, now=time.time(), slots=4, price=Price(Msat(900)), network="play")
    settings = SwarmSettings(bid=bid, own=frozenset({own.public}), dispatch=DispatchSettings(patience_s=0.5))
    async with SwarmClient(relays, SecretKey.generate(), settings=settings, purse=till) as client:
        await client.caught_up()
        [listing] = client.directory
        assert client.why_not(JobSpec("a"), listing) == ""
        answers = await client.map(["one", "another"])
    assert [isinstance(one, Answer) and one.paid for one in answers] == [ZERO, ZERO] and not till.receipts
    assert {request.job.bid for request in own.received} == {None}, "nothing is offered, and so no bound is told"


async def test_a_map_whose_wallet_is_empty_ends_soon_and_says_so() -> None:
    class Empty(Till):
        def width(self, listing: Listing) -> int | None:
            return None if listing.price.is_free else 0

        def barred(self, listing: Listing) -> str:
            return "" if listing.price.is_free else UNFUNDED

    relays = FakeRelays()
    FakeProvider(relays, now=time.time(), price=PRICE, network="play")
    settings = SwarmSettings(bid=EACH, checks=None, dispatch=DispatchSettings(patience_s=0.2))
    async with SwarmClient(relays, SecretKey.generate(), settings=settings, purse=Empty()) as client:
        await client.caught_up()
        with pytest.raises(UnreachableError, match="1 not paid, because the wallet holds too little") as caught:
            await asyncio.wait_for(client.map(["one", "another"]), 20.0)
        assert "pylon wallet balance" in caught.value.hint
        for _ in range(2):
            FakeProvider(relays, now=time.time(), price=Price(Msat(int(EACH) * 2)), network="play")
        await until(lambda: len(client.directory) == 3)
        with pytest.raises(UnreachableError, match=r"1 not paid, because .*; 2 too expensive") as caught:
            await asyncio.wait_for(client.map(["one", "another"]), 20.0)
        assert "pylon wallet balance" in caught.value.hint
        # What costs nothing goes on.
        FakeProvider(relays, now=time.time())
        assert all(isinstance(outcome, Answer) for outcome in await client.map(["one", "another"]))


async def test_a_job_whose_receipt_cannot_be_booked_goes_to_somebody_else_at_once_as_far_as_the_budget_goes() -> None:
    class Broken(Till):
        """Cannot book the first."""

        async def accept(self, bill: Bill, offer: Offer, result: JobResult) -> Msat | None:
            if not self.receipts:
                self.receipts[bill.request] = int(EACH)
                raise OSError("the disk is full")
            return await super().accept(bill, offer, result)

    for budget, answered in ((1, False), (2, True)):
        relays, till = FakeRelays(), Broken()
        for _ in range(3):
            FakeProvider(relays, now=time.time(), price=PRICE, network="play")
        settings = SwarmSettings(bid=EACH, checks=None)
        async with SwarmClient(relays, SecretKey.generate(), settings=settings, purse=till) as client:
            await client.caught_up()
            began = time.monotonic()
            [outcome] = await client.map([JobSpec("a question", max_tokens=8)], budget_msat=budget * int(EACH))
            assert time.monotonic() - began < 5.0
        assert isinstance(outcome, Answer) is answered
        assert len(till.receipts) == len(relays.requests()) == budget


@dataclass
class ByPriceList(Till):
    """Offers and charges by its provider's price list, as it is at that moment."""

    def offer(self, listing: Listing, bounds: Bounds, *, bid: Msat, jobs_left: int, left: int | None = None) -> Offer:
        return Offer(listing, bounds, quote_bound(listing.price, bounds), bid)

    async def accept(self, bill: Bill, offer: Offer, result: JobResult) -> Msat | None:
        self.receipts[bill.request] = int(offer.quote)
        return offer.quote


class Slow(FakeRelays):
    """Requests that wait for their turn to be sent, as they do behind many others."""

    async def publish(self, event: Event, **options: Any) -> None:
        if event.kind in REQUEST_KINDS:
            await asyncio.sleep(0.05)
        await super().publish(event, **options)


@pytest.mark.parametrize(("raised", "budget"), [(50_000, None), (50_000, 600), (900, 600)])
async def test_a_price_that_rises_before_a_request_goes_out_passes_neither_bid_nor_budget(
    raised: int, budget: int | None
) -> None:
    relays, till, jobs = Slow(), ByPriceList(), 100
    one = FakeProvider(relays, now=time.time(), slots=jobs, price=Price(Msat(1)), network="play")
    settings = SwarmSettings(bid=Msat(1_000), checks=None, publishing=8)
    async with SwarmClient(relays, SecretKey.generate(), settings=settings, purse=till) as swarm:
        await swarm.caught_up()
        specs = [JobSpec(f"q{n}", max_tokens=8) for n in range(jobs)]
        asking = asyncio.create_task(swarm.map(specs, budget_msat=budget, deadline_s=3.0))
        await until(lambda: one.received)
        one.announcement = replace(one.announcement, price=Price(Msat(raised)))
        one._now += 1
        one.announce()
        one.beat(after=1)
        outcomes = await asking
    answered = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
    assert 0 < len(answered) < jobs
    assert max(int(answer.paid) for answer in answered) <= settings.bid
    assert sum(till.receipts.values()) <= (budget or jobs * settings.bid)


@pytest.mark.parametrize("jobs_paid_for", [1, 2])
async def test_what_a_relay_without_an_ok_passed_on_is_charged_to_the_budget_and_told_to_stop(
    jobs_paid_for: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "PATIENCE_S", 0.2)
    relays, till = FakeRelays(passes_on=True), Till()
    relays.mute = set(relays.urls)
    providers = [FakeProvider(relays, now=time.time(), price=PRICE, network="play") for _ in range(2)]
    # None of them answers before it is let.
    for one in providers:
        await one._slots.acquire()
    reservation = CallReservation(jobs_paid_for * int(EACH))
    settings = SwarmSettings(bid=EACH, checks=None)
    async with SwarmClient(relays, SecretKey.generate(), settings=settings, purse=till) as swarm:
        await swarm.caught_up()
        asking = asyncio.create_task(swarm.map([JobSpec("one question", max_tokens=8)], reservation=reservation))
        await until(lambda: len(relays.requests()) == jobs_paid_for)
        if jobs_paid_for == 1:
            # The relay has been given up.
            await until(lambda: not relays.publishing)
        for one in providers:
            one._slots.release()
        [answer] = await asking
        assert isinstance(answer, Answer)
        await until(lambda: len(till.receipts) >= jobs_paid_for and reservation.decided)
    asked = [event.id for event in relays.requests()]
    cancelled = [request for one in providers for request in one.cancelled]
    # Where the budget has nothing for a second one, the first is waited for.
    assert len(asked) == jobs_paid_for and (asked[0] in cancelled) == (jobs_paid_for == 2)
    assert reservation.charged_msat == sum(till.receipts.values()) == jobs_paid_for * int(EACH)
