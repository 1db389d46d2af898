"""What `pylon map --dry-run` says before anything is sent."""

import random
import time

import pytest

from pylon.cli import mapping
from pylon.cli.output import out
from pylon.jobs.announcement import OfferedModel
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.node.estimate import estimate
from pylon.nostr.keys import SecretKey
from pylon.swarm.client import SwarmClient
from pylon.swarm.job import JobSpec
from pylon.swarm.settings import SwarmSettings
from tests.swarm.fakes import MODEL, FakeProvider, FakeRelays


@pytest.fixture
async def client():
    relays = FakeRelays()
    for price in (1_000, 2_000, 9_000):
        FakeProvider(relays, now=time.time(), slots=2, price=Price(Msat(price)), network="play")
    settings = SwarmSettings(bid=Msat(10_000))
    async with SwarmClient(relays, SecretKey.generate(), settings=settings) as made:
        assert await made.caught_up()
        yield made


async def test_cost_is_added_up_over_jobs_and_providers(client):
    found = await estimate(client, [JobSpec(f"question {n}", max_tokens=10) for n in range(100)])
    assert (found["jobs"], found["providers"], found["slots"], found["unaskable"]) == (100, 3, 6, 0)
    assert (found["least_msat"], found["usual_msat"], found["most_msat"]) == (100_000, 200_000, 900_000)
    assert found["most_completion_tokens"] == 1_000


async def test_jobs_that_could_be_asked_of_nobody_are_told_of_and_not_counted(client):
    found = await estimate(client, [JobSpec("a"), JobSpec("b", max_tokens=-1), JobSpec("c", votes=0)])
    assert (found["jobs"], found["unaskable"], found["least_msat"]) == (3, 2, 1_000)
    assert [(row["index"], row["error"]["reason"]) for row in found["faults"]] == [(1, "malformed"), (2, "malformed")]
    assert "max_tokens" in found["faults"][0]["error"]["message"]
    nothing = await estimate(client, [JobSpec("b", max_tokens=-1)])
    assert nothing["wall_s"] is None


async def test_a_prompt_that_no_event_carries_is_named_by_its_place_and_not_counted(client):
    found = await estimate(client, [JobSpec("a"), JobSpec(random.Random(1).randbytes(60_000).hex()), JobSpec("b")])
    [row] = found["faults"]
    assert (found["unaskable"], row["index"], row["error"]["reason"]) == (1, 1, "too_large")
    assert "a prompt of 120,000 characters" in row["error"]["message"] and found["least_msat"] == 2_000


async def test_why_nobody_takes_a_job_is_said_with_what_to_do(client):
    assert (await estimate(client, [JobSpec("a")]))["lack"] is None
    lack = (await estimate(client, [JobSpec("a"), JobSpec("b", bid_msat=0, model=MODEL.id)]))["lack"]
    assert lack["message"].endswith("3 too expensive") and "`bid_msat` in [customer]" in lack["hint"]


async def test_each_job_is_estimated_by_who_has_its_model(client):
    found = await estimate(client, [JobSpec("a", model=MODEL.id), JobSpec("a longer one", model="no/such-model")])
    assert (found["providers"], found["least_msat"]) == (3, 1_000)


async def swarm(*providers):
    relays = FakeRelays()
    for longest, slots, speeds in providers:
        one = FakeProvider(
            relays, now=time.time(), slots=slots, model=OfferedModel("m", max_completion_tokens=longest)
        )
        one.beat(after=1, tokens_in_per_s=speeds[0], tokens_out_per_s=speeds[1])
    client = SwarmClient(relays, SecretKey.generate(), settings=SwarmSettings())
    await client.start()
    assert await client.caught_up()
    return client


@pytest.mark.parametrize(
    ("longest", "asked", "tokens"), [((12, 12), None, 12), ((12, 40), None, 40), ((12, 0), None, 512), ((12,), 5, 5)]
)
async def test_answers_are_as_long_as_the_models_of_those_who_can_give_them(longest, asked, tokens):
    """needle-1 stops at 12: counted as 512 its runs seemed forty times as long."""
    client = await swarm(*((one, 4, (0.0, 0.0)) for one in longest))
    try:
        found = await estimate(client, [JobSpec("a", max_tokens=asked)] * 3)
    finally:
        await client.close()
    assert found["most_completion_tokens"] == 3 * tokens


async def test_the_time_goes_by_who_has_measured_and_is_not_known_where_nobody_has():
    jobs = [JobSpec("a" * 400)] * 60
    unknown = await swarm((12, 16, (0.0, 0.0)))
    known = await swarm((12, 16, (1_000.0, 96.0)), (12, 16, (0.0, 0.0)))
    try:
        assert (await estimate(unknown, jobs))["wall_s"] is None
        # Two rounds of 32 slots: each reads 100 tokens and writes 12 at a sixteenth of the speed of all slots.
        assert (await estimate(known, jobs))["wall_s"] == round(2 * 16 * (100 / 1_000 + 12 / 96), 1)
    finally:
        await unknown.close()
        await known.close()


async def test_ones_own_machine_costs_nothing_whatever_it_asks_of_others():
    relays = FakeRelays()
    own = FakeProvider(relays, now=time.time(), slots=2, price=Price(Msat(900)), network="play")
    FakeProvider(relays, now=time.time(), price=Price(Msat(5)), network="play")
    settings = SwarmSettings(bid=Msat(10), own=frozenset({own.public}))
    async with SwarmClient(relays, SecretKey.generate(), settings=settings) as client:
        assert await client.caught_up()
        found = await estimate(client, [JobSpec("a")])
    assert (found["providers"], found["slots"], found["least_msat"], found["most_msat"]) == (2, 3, 0, 5)


async def test_nothing_takes_nothing(client):
    found = await estimate(client, [])
    assert (found["jobs"], found["most_msat"], found["wall_s"]) == (0, 0, None)


def test_what_it_takes_can_be_read_on_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "jobs": 1_200, "checks": 60, "unaskable": 1, "providers": 3, "slots": 48, "least_msat": 1_200_000,
        "most_msat": 9_000_000, "prompt_tokens": 1_000_000, "most_completion_tokens": 614_400, "wall_s": 812.5,
        "lack": None,
        "faults": [{"line": 7, "error": {"message": "a prompt of 120,000 characters does not fit one event"}}],
    }  # fmt: skip
    monkeypatch.setattr(out, "_width", 80)
    monkeypatch.setattr(out, "_force_terminal", True)
    with out.capture() as shown:
        mapping._print_estimate(found, 5_000_000, "sat")
    lines = [line.rstrip() for line in shown.get().splitlines()]
    assert max(map(len, lines)) <= 80
    # Labels stand whole in their column, and what is said of each beside it.
    assert [line[:20].strip() for line in lines if line[0] != " "] == [
        "estimate", "jobs", "not sent", "line 7", "suitable providers", "cost", "budget", "tokens", "time",
    ]  # fmt: skip
    assert {line[20] != " " and line[18:20] == "  " for line in lines[1:]} == {True}
