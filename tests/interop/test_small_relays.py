"""A relay whose NIP-11 document allows less than common software does: what we make fits it."""

import random

import pytest

from pylon.jobs.kinds import TEXT_REQUEST
from pylon.jobs.request import JobRequest
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.relay.limits import RelayLimits
from pylon.relay.server import RelayServer
from pylon.swarm.client import SwarmClient
from pylon.swarm.dispatch.messages import Failure
from pylon.swarm.job import Answer, JobFailed

MESSAGE_BYTES = 6_000


@pytest.fixture
async def relay():
    limits = RelayLimits(message_bytes=MESSAGE_BYTES, event_bytes=5_000)
    async with RelayServer(limits=limits) as server:
        yield server


async def test_a_prompt_that_this_relay_does_not_take_is_refused_here_and_the_others_are_answered(relay, serve):
    await serve()
    secret = SecretKey.generate()
    pool = RelayPool([relay.url], secret=secret)
    pool.start()
    async with SwarmClient(pool, secret) as swarm:
        noise = random.Random(1).randbytes(4_000).hex()
        small, large = await swarm.map(["How many legs has a spider?", noise])
    statuses = pool.statuses
    await pool.close()
    assert isinstance(small, Answer)
    assert isinstance(large, JobFailed) and large.reason is Failure.TOO_LARGE
    assert "5,000" in str(large)
    # Nothing was sent that the relay would have hung up on.
    assert [status.reconnects for status in statuses] == [0]


async def test_an_open_result_is_made_to_fit_the_relay_that_it_goes_to(relay, serve, customer):
    serving = await serve()
    job = JobRequest("How many legs has a spider? " * 140, kind=TEXT_REQUEST)
    request = await customer.ask(serving.public, job, private=False)
    result = await customer.result(request)
    event = customer.answers[0]
    assert result.text and len(event.to_json()) <= 5_000
    assert event.tag("request") is None
