"""nostr-sdk's relay between our customer and our providers.

It drops live events of a subscriber that lags, without a word, while it says OK to every publication and stores
it. So what is tested is that nothing depends on a live push.
"""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass

import nostr_sdk as sdk
import orjson
import pytest
from websockets.asyncio.client import connect

from pylon.jobs.kinds import RESULT_KINDS
from pylon.nostr import messages as m
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.swarm.client import SwarmClient
from pylon.swarm.job import Answer

JOBS = 300
QUESTIONS = [f"How many legs have {n} spiders?" for n in range(JOBS)]
PROVIDERS = 3
NOISE = 2_000


@dataclass
class Local:
    url: str


@pytest.fixture
async def relay():
    limits = sdk.RateLimit(max_reqs=500, notes_per_minute=1_000_000)
    local = sdk.LocalRelayBuilder().rate_limit(limits).build()
    await local.run()
    yield Local(str(await local.url()))
    local.shutdown()


class Lag:
    """Reads nothing from the relay between the first result and `end`, and counts the results that are pushed."""

    def __init__(self, pool: RelayPool, providers: set[str]) -> None:
        self.began = asyncio.Event()
        self.over = asyncio.Event()
        self.pushed: set[str] = set()
        self._providers = providers
        (self._connection,) = pool._connections.values()
        self._receive = self._connection._receive
        self._connection._receive = self._late

    async def _late(self, message: m.RelayMessage) -> None:
        match message:
            case m.EventMessage(event, name) if event.kind in RESULT_KINDS and event.pubkey in self._providers:
                self.began.set()
                await self.over.wait()
                if name.startswith("answers"):
                    self.pushed.add(event.id)
        await self._receive(message)


async def storm(url: str, customer: str) -> None:
    """More than fits on the way to a customer who does not read."""
    stranger = SecretKey.generate()
    async with connect(url) as socket:
        for number in range(NOISE):
            event = stranger.sign(EventDraft(6940, f"{number:08}" * 4_000, (("p", customer),)))
            await socket.send(orjson.dumps(["EVENT", event.to_dict()]).decode())
        async with asyncio.timeout(30):
            for _ in range(NOISE):
                await socket.recv()


@asynccontextmanager
async def customer(url, providers):
    secret = SecretKey.generate()
    pool = RelayPool([url], secret=secret)
    pool.start()
    try:
        async with SwarmClient(pool, secret) as swarm:
            while sum(not listing.loading for listing in swarm.directory) < providers:
                await swarm.caught_up(0.1)
                await asyncio.sleep(0.02)
            yield swarm, pool, secret.public
    finally:
        await pool.close()


def check(outcomes, serving) -> list[Answer]:
    answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
    assert len(answers) == JOBS
    assert all(f"have {n} spiders" in answer.text for n, answer in enumerate(answers))
    assert set(Counter(answer.provider for answer in answers)) == {one.public for one in serving}
    return answers


async def test_three_hundred_jobs_are_answered_over_a_relay_of_others(relay, serve):
    serving = [await serve(name=f"provider{n}", slots=64) for n in range(PROVIDERS)]
    async with customer(relay.url, PROVIDERS) as (swarm, _, _):
        check(await swarm.map(QUESTIONS), serving)


@pytest.mark.slow
async def test_every_job_is_answered_though_the_relay_drops_what_it_pushes(relay, serve):
    serving = [await serve(name=f"provider{n}", slots=64) for n in range(PROVIDERS)]
    async with customer(relay.url, PROVIDERS) as (swarm, pool, public):
        lag = Lag(pool, {one.public for one in serving})
        run = asyncio.create_task(swarm.map(QUESTIONS))
        await lag.began.wait()
        await storm(relay.url, public)
        lag.over.set()
        answers = check(await run, serving)
    never_pushed = [answer for answer in answers if answer.result_id not in lag.pushed]
    assert never_pushed, "the relay dropped nothing: this test has shown nothing"
