"""The `map` call of the control socket: jobs as JSON."""

import asyncio
import time

import pytest

from pylon.clock import SystemClock
from pylon.errors import UsageError
from pylon.node import asking
from pylon.node.asking import Books, ask_all
from pylon.node.calls.protocol import Event, Result
from pylon.nostr.keys import SecretKey
from pylon.sections import CustomerSection
from pylon.swarm.client import SwarmClient
from pylon.swarm.schema import SWARM
from tests.opened import opened_database
from tests.swarm.fakes import MODEL, FakeProvider, FakeRelays
from tests.waiting import until


class Relays(FakeRelays):
    async def wait_open(self, patience_s: float) -> None:
        """These always are."""


async def asked(jobs: list[object], **params: object) -> list[dict]:
    relays = Relays()
    FakeProvider(relays, now=time.time(), slots=4)
    books = Books(None, None, SystemClock())  # type: ignore[arg-type] - no run is kept
    async with SwarmClient(relays, SecretKey.generate()) as client:
        calls = ask_all(client, relays, CustomerSection(), books, {"jobs": jobs, **params})  # type: ignore[arg-type]
        async with asyncio.timeout(20):
            [result] = [answer async for answer in calls if isinstance(answer, Result)]
        return result.data["outcomes"]


def reason(row: dict) -> str | None:
    return None if row["error"] is None else row["error"]["reason"]


async def test_a_job_whose_fields_are_malformed_fails_alone():
    bad = [
        {"prompt": "a", "stop": 5},
        {"messages": "zz"},
        {"messages": [{"role": "user"}]},
        {"prompt": "a", "model": {}},
    ]
    good = [{"prompt": "b", "stop": "x"}, {"messages": [{"role": "user", "content": "b"}]}]
    outcomes = await asked([*bad, *good])
    assert [reason(row) for row in outcomes] == ["malformed"] * 4 + [None] * 2
    assert [row["text"] for row in outcomes[4:]] == ["echo: b", 'echo: [{"role":"user","content":"b"}]']


async def test_weights_are_pinned_for_those_jobs_that_can_be_asked():
    outcomes = await asked([{"prompt": "a", "model": {}}, {"prompt": "b"}], pin_weights=True)
    assert reason(outcomes[0]) == "malformed"
    assert outcomes[1]["text"] == "echo: b" and outcomes[1]["sha256"] == MODEL.sha256


async def test_what_is_no_job_at_all_is_a_wrong_call():
    for job in ("text", {"prompt": 5}, {"prompts": "a"}):
        with pytest.raises(UsageError):
            await asked([job])


@pytest.mark.parametrize("stream", [False, True])
async def test_a_map_says_that_it_begins_before_anything_is_asked(stream: bool) -> None:
    relays = Relays()
    FakeProvider(relays, now=time.time(), slots=4)
    books = Books(None, None, SystemClock())  # type: ignore[arg-type] - no run is kept
    async with SwarmClient(relays, SecretKey.generate()) as client:
        params = {"jobs": [{"prompt": "a"}], "stream": stream}
        calls = ask_all(client, relays, CustomerSection(), books, params)  # type: ignore[arg-type]
        async with asyncio.timeout(20):
            first = await anext(calls)
            assert isinstance(first, Event) and not relays.requests()
            assert (first.data["done"], first.data["in_flight"], first.data["paid_msat"]) == (0, 0, 0)
            assert "outcomes" not in first.data
            assert isinstance([answer async for answer in calls][-1], Result)


async def test_a_map_tells_what_is_in_flight_before_anything_is_answered() -> None:
    relays = Relays()
    FakeProvider(relays, now=time.time(), slots=4, delay_s=0.5)
    books = Books(None, None, SystemClock())  # type: ignore[arg-type] - no run is kept
    async with SwarmClient(relays, SecretKey.generate()) as client:
        params = {"jobs": [{"prompt": "a"}]}
        calls = ask_all(client, relays, CustomerSection(), books, params)  # type: ignore[arg-type]
        async with asyncio.timeout(20):
            told = [answer.data async for answer in calls if isinstance(answer, Event)]
    assert any(data["in_flight"] == 1 and not data["done"] for data in told)


async def test_jobs_are_taken_out_of_their_call_once_they_are_read_and_keep_their_places() -> None:
    params = {"jobs": [{"prompt": f"{number}"} for number in range(1_200)]}
    specs = await asking._specs(params, 5.0)
    assert [spec.prompt for spec in specs] == [f"{number}" for number in range(1_200)]
    assert params == {} and specs[0].timeout == 5.0


async def test_a_run_that_goes_on_is_not_taken_up_beside_it_and_is_once_its_call_has_ended(tmp_path) -> None:
    relays = Relays()
    FakeProvider(relays, now=time.time(), slots=4)
    async with (
        opened_database(tmp_path / "pylon.db", SWARM) as (database, group),
        SwarmClient(relays, SecretKey.generate()) as client,
    ):
        books = Books(database, group, SystemClock())

        def call(**params: bool):
            job = {"jobs": [{"prompt": "a"}], "journal": True, **params}
            return ask_all(client, relays, CustomerSection(), books, job)  # type: ignore[arg-type]

        async with asyncio.timeout(20):
            first = call()
            await anext(first)
            # Its row is to be found before another one looks for it.
            await group.execute("SELECT 1")
            with pytest.raises(UsageError, match="asking these same prompts now"):
                [answer async for answer in call(resume=True)]
            assert not relays.requests()
            await first.aclose()
            taken_up = [answer async for answer in call(resume=True)][-1]
            assert isinstance(taken_up, Result) and taken_up.data["resumed"] and taken_up.data["answered"] == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_map_whose_caller_has_gone_is_over_before_another_call_may_take_it_up(tmp_path, stream: bool) -> None:
    relays = Relays()
    provider = FakeProvider(relays, now=time.time(), slots=4, silent=True)
    async with (
        opened_database(tmp_path / "pylon.db", SWARM) as (database, group),
        SwarmClient(relays, SecretKey.generate()) as client,
    ):
        books = Books(database, group, SystemClock())
        params = {"jobs": [{"prompt": "a"}, {"prompt": "b", "max_tokens": -1}], "journal": True, "stream": stream}
        call = ask_all(client, relays, CustomerSection(), books, params)  # type: ignore[arg-type]
        async with asyncio.timeout(20):
            for _ in range(2):
                await anext(call)
            await until(lambda: provider.received)
            assert books.open and client._parts.runs.by_number
            await call.aclose()
            assert not books.open and not client._parts.runs.by_number


async def test_a_run_that_is_not_kept_is_refused_before_anything_is_asked_where_only_a_kept_one_is_meant(tmp_path):
    relays = Relays()
    FakeProvider(relays, now=time.time(), slots=4)
    async with (
        opened_database(tmp_path / "pylon.db", SWARM) as (database, group),
        SwarmClient(relays, SecretKey.generate()) as client,
    ):
        books = Books(database, group, SystemClock())

        async def call(prompt: str, **params: bool) -> Result:
            job = {"jobs": [{"prompt": prompt}], "journal": True, **params}
            calls = ask_all(client, relays, CustomerSection(), books, job)  # type: ignore[arg-type]
            answer = [answer async for answer in calls][-1]
            assert isinstance(answer, Result)
            return answer

        async with asyncio.timeout(20):
            await call("a")
            asked = len(relays.requests())
            with pytest.raises(UsageError, match="there is no kept run of these prompts and options") as caught:
                await call("b", resume=True, only_kept=True)
            assert "Leave out `resume`" in caught.value.hint
            assert len(relays.requests()) == asked and not books.open
            assert len(await database.fetch_all("SELECT * FROM swarm_run")) == 1
            assert (await call("a", resume=True, only_kept=True)).data["resumed"]
            # Without it a run begins, and is what is taken up from then on.
            assert not (await call("b", resume=True)).data["resumed"]
            assert (await call("b", resume=True, only_kept=True)).data["resumed"]


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_run_has_by_now_is_told_while_it_goes_on_and_asks_nobody(tmp_path, stream: bool) -> None:
    relays = Relays()
    silent = FakeProvider(relays, now=time.time(), slots=4, silent=True)
    async with (
        opened_database(tmp_path / "pylon.db", SWARM) as (database, group),
        SwarmClient(relays, SecretKey.generate()) as client,
    ):
        books = Books(database, group, SystemClock())

        async def call(**params: object) -> list[Event | Result]:
            job = {"jobs": [{"prompt": "a"}, {"prompt": "b"}], "journal": True, "stream": stream, **params}
            calls = ask_all(client, relays, CustomerSection(), books, job)  # type: ignore[arg-type]
            return [answer async for answer in calls]

        async def look() -> dict:
            *events, result = await call(resume=True, deadline_s=0)
            assert isinstance(result, Result) and ("outcomes" in result.data) is not stream
            # As each event of a run that asks.
            told = {"done", "failed", "paid_msat", "in_flight", "providers", "loading", "outcomes"}
            assert [set(event.data) for event in events] == ([told] if stream else [])
            return {**result.data, **(events[0].data if stream else {})}

        async with asyncio.timeout(30):
            with pytest.raises(UsageError, match="there is no kept run of these prompts and options"):
                await look()
            assert await database.fetch_all("SELECT * FROM swarm_run") == []
            goes_on = asyncio.create_task(call())
            await until(lambda: len(silent.received) >= 2)
            assert ((found := await look())["answered"], found["jobs"], found["resumed"]) == (0, 2, True)
            [request] = [one for one in silent.received if one.job.text == "b"]
            silent.result(relays.stored[request.id], request, "an answer")
            while not (found := await look())["answered"]:
                await asyncio.sleep(0.01)
            assert [row["text"] for row in found["outcomes"]] == [None, "an answer"]
            error = found["outcomes"][0]["error"]
            assert (error["reason"], error["message"]) == ("deadline", "no answer yet")
            assert len(relays.requests()) == 2 and not silent.cancelled and not goes_on.done()
            goes_on.cancel()
