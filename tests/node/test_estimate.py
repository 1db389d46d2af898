"""What `pylon map --dry-run` says before anything is sent."""

import random
import time

import pytest

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
    assert found["most_completion_tokens"] == 1_000 and found["seconds"] > 0


async def test_jobs_that_could_be_asked_of_nobody_are_told_of_and_not_counted(client):
    found = await estimate(client, [JobSpec("a"), JobSpec("b", max_tokens=-1), JobSpec("c", votes=0)])
    assert (found["jobs"], found["unaskable"], found["least_msat"]) == (3, 2, 1_000)
    assert [(row["index"], row["error"]["reason"]) for row in found["faults"]] == [(1, "malformed"), (2, "malformed")]
    assert "max_tokens" in found["faults"][0]["error"]["message"]
    nothing = await estimate(client, [JobSpec("b", max_tokens=-1)])
    assert nothing["seconds"] is None


async def test_a_prompt_that_no_event_carries_is_named_by_its_place_and_not_counted(client):
    found = await estimate(client, [JobSpec("a"), JobSpec(random.Random(1).randbytes(60_000).hex()), JobSpec("b")])
    [row] = found["faults"]
    assert (found["unaskable"], row["index"], row["error"]["reason"]) == (1, 1, "too_large")
    assert "a prompt of 120,000 characters" in row["error"]["message"] and found["least_msat"] == 2_000


async def test_each_job_is_estimated_by_who_has_its_model(client):
    found = await estimate(client, [JobSpec("a", model=MODEL.id), JobSpec("a longer one", model="no/such-model")])
    assert (found["providers"], found["least_msat"]) == (3, 1_000)


async def test_nothing_takes_nothing(client):
    found = await estimate(client, [])
    assert (found["jobs"], found["most_msat"], found["seconds"]) == (0, 0, None)
