"""Providers that load their model: who is waited for, and what is told meanwhile."""

import asyncio
import time
from contextlib import aclosing
from dataclasses import replace

import pytest

from pylon.clock import SystemClock
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.node import asking
from pylon.node.asking import Books, ask_all
from pylon.node.calls.protocol import Event, Result
from pylon.node.loading import Loading, loading_text, until_ready
from pylon.nostr.keys import SecretKey
from pylon.sections import CustomerSection
from pylon.swarm.client import SwarmClient
from pylon.swarm.job import JobSpec
from pylon.swarm.providers.listing import LOADING, PAUSED, TOO_DEAR
from pylon.swarm.settings import DispatchSettings, SwarmSettings
from tests.swarm.fakes import MODEL, FakeProvider, FakeRelays


class Relays(FakeRelays):
    async def wait_open(self, patience_s: float) -> None:
        """These always are."""


async def asked(relays, patience_s=10.0, **params):
    """The events of a `map` call of one prompt, and its result; each event calls `heard` of the relays."""
    books = Books(None, None, SystemClock())
    params = {"jobs": [{"prompt": "a"}], **params}
    settings = SwarmSettings(dispatch=DispatchSettings(patience_s=patience_s))
    events, result = [], {}
    async with SwarmClient(relays, SecretKey.generate(), settings=settings) as client:
        calls = ask_all(client, relays, CustomerSection(patience_s=patience_s), books, params)
        async with asyncio.timeout(20), aclosing(calls) as answers:
            async for answer in answers:
                if not isinstance(answer, Event):
                    result = answer.data
                    continue
                events.append(answer.data)
                if answer.data["loading"]:
                    relays.heard()
    return events, result


def loading_provider(relays):
    provider = FakeProvider(relays, now=time.time(), seen=False)
    provider.announce()
    provider.beat(loading=True)
    return provider


class Crowd:
    """A client that hears of so many providers, and takes `took_s` seconds to judge all of them."""

    def __init__(self, took_s: float, whys: list[str]) -> None:
        self.directory = whys
        self.judges = self.looks = 0
        self._took_s = took_s

    def judge(self, spec):
        self.judges += 1

        def why_not(why):
            if why is self.directory[0]:
                self.looks += 1
                time.sleep(self._took_s)
            return why

        return why_not


@pytest.mark.parametrize(
    ("reasons", "number"),
    [
        ([], 0),
        ([LOADING], 1),
        ([LOADING, TOO_DEAR, LOADING], 2),
        ([LOADING, ""], 0),
        (["", LOADING], 0),
        ([TOO_DEAR, PAUSED], 0),
    ],
)
async def test_those_who_load_are_waited_for_until_anybody_takes_the_question(reasons, number):
    assert await Loading(Crowd(0.0, reasons), [JobSpec("a")]).look() == number


def test_it_is_told_how_many_load():
    assert loading_text(1).startswith("1 provider is loading its model")
    assert loading_text(1_200).startswith("1,200 providers are loading their model")


@pytest.mark.parametrize("params", [{"dry_run": True}, {"pin_weights": True}, {}])
async def test_a_call_waits_for_a_provider_that_is_loading_and_tells_so(params):
    relays = Relays()
    provider = loading_provider(relays)
    relays.heard = lambda: provider.beat(after=1)
    events, result = await asked(relays, **params)
    assert events[0]["loading"] == 1
    assert result["lack"] is None if params.get("dry_run") else result["answered"] == 1


async def test_a_dry_run_waits_for_one_that_loads_where_another_is_ready_and_does_not_take_the_job():
    relays = Relays()
    FakeProvider(relays, now=time.time(), model=replace(MODEL, id="other", sha256=""))
    provider = loading_provider(relays)
    relays.heard = lambda: provider.beat(after=1)
    events, result = await asked(relays, dry_run=True, jobs=[{"prompt": "a", "model": provider.used.id}])
    assert [event["loading"] for event in events] == [1] and result["lack"] is None


@pytest.mark.parametrize("longest_first", [True, False])
async def test_a_dry_run_waits_for_whom_its_longest_prompt_needs(longest_first):
    relays = Relays()
    FakeProvider(relays, now=time.time(), model=replace(MODEL, context=1_000))
    large = FakeProvider(relays, now=time.time(), model=replace(MODEL, context=100_000), seen=False)
    large.announce()
    large.beat(loading=True)
    relays.heard = lambda: large.beat(after=1)
    jobs = [{"prompt": "a " * 20_000}, {"prompt": "a"}]
    events, result = await asked(relays, dry_run=True, jobs=jobs if longest_first else jobs[::-1])
    assert [event["loading"] for event in events] == [1] and result["lack"] is None


@pytest.mark.parametrize("params", [{"dry_run": True}, {"pin_weights": True}, {}])
async def test_one_that_loads_is_waited_for_beyond_the_patience_with_nobody(params):
    relays = Relays()
    provider = loading_provider(relays)

    def load() -> None:
        asyncio.get_running_loop().call_later(1.0, lambda: provider.beat(after=1))
        relays.heard = lambda: None

    relays.heard = load
    _, result = await asked(relays, patience_s=0.3, **params)
    assert result["lack"] is None if params.get("dry_run") else result["answered"] == 1


async def test_a_call_whose_first_question_is_malformed_tells_of_those_who_load_for_the_others():
    relays = Relays()
    provider = loading_provider(relays)
    relays.heard = lambda: asyncio.get_running_loop().call_later(0.5, lambda: provider.beat(after=1))
    events, result = await asked(relays, jobs=[{"prompt": ""}, {"prompt": "a"}], timeout_s=3.0)
    assert result["answered"] == 1
    assert events[0]["loading"] == 1 and next(event["loading"] for event in events if event["failed"]) == 1


@pytest.mark.parametrize("params", [{"dry_run": True}, {"pin_weights": True}])
async def test_a_question_whose_timeout_is_no_number_keeps_none_of_the_others_from_being_asked(params):
    relays = Relays()
    FakeProvider(relays, now=time.time())
    _, result = await asked(relays, jobs=[{"prompt": "a", "timeout": "soon"}, {"prompt": "b"}], **params)
    assert result["unaskable"] == 1 if params.get("dry_run") else result["answered"] == 1


async def test_a_call_that_only_looks_has_no_more_patience_with_one_that_loads_than_with_nobody(monkeypatch):
    async def looked(*_):
        yield Result({})

    monkeypatch.setattr(asking, "_look", looked)
    relays = Relays()
    loading_provider(relays)
    relays.heard = lambda: None
    started = time.monotonic()
    await asked(relays, patience_s=0.3, pin_weights=True, resume=True, deadline_s=0)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("time", ["timeout_s", "deadline_s"])
async def test_who_is_still_loading_when_there_is_no_more_time_is_named_with_what_to_do(time):
    relays = Relays()
    loading_provider(relays)
    relays.heard = lambda: None
    events, result = await asked(relays, dry_run=True, **{time: 0.5})
    assert [event["loading"] for event in events] == [1]
    assert "1 still loading" in result["lack"]["message"] and "Ask again" in result["lack"]["hint"]


async def test_looks_at_a_crowd_take_a_tenth_of_the_time_and_what_a_question_needs_is_found_once():
    crowd = Crowd(0.03, [LOADING] * 2_000)
    crowd.directory[0] = "paused, and the first"
    waiting = until_ready(crowd, [JobSpec("a"), JobSpec("b", model="b"), JobSpec("")], SystemClock(), 1.0, 1.0)
    assert [event.data async for event in waiting] == [{"loading": 1_999}]
    # Ten times a second without a pause there were six rounds of two looks.
    assert crowd.judges == 2 and crowd.looks <= 2 * 3


async def test_others_have_their_turn_while_a_crowd_is_looked_at():
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    assert await Loading(Crowd(0.0, [PAUSED, *[LOADING] * 4_999]), [JobSpec("a")]).look() == 4_999
    task.cancel()
    assert turns >= 9


async def test_nobody_waits_for_one_that_will_be_too_expensive_when_its_model_is_loaded():
    relays = Relays()
    provider = FakeProvider(relays, now=time.time(), seen=False)
    provider.announcement = replace(provider.announcement, price=Price(Msat(5_000)), network="play")
    provider.announce()
    provider.beat(loading=True)
    started = time.monotonic()
    events, result = await asked(relays, dry_run=True)
    assert not events and "loading" not in result["lack"]["message"]
    assert time.monotonic() - started < 5


async def test_nobody_waits_for_those_who_are_there_and_do_not_take_the_job():
    relays = Relays()
    FakeProvider(relays, now=time.time())
    started = time.monotonic()
    events, result = await asked(relays, dry_run=True, jobs=[{"prompt": "a", "model": "another"}])
    assert not events and "1 without this model" in result["lack"]["message"]
    assert time.monotonic() - started < 5
