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
from pylon.swarm.settings import SwarmSettings

JOBS = 300
QUESTIONS = [f"How many legs have {n} spiders?" for n in range(JOBS)]
PROVIDERS = 3
NOISE = 2_000


@dataclass
class Local:
    url: str


@pytest.fixture
async def relay():
    # Another test of this process may have named its own, which is closed.
    sdk.uniffi_set_event_loop(asyncio.get_running_loop())
    limits = sdk.RateLimit(max_reqs=500, notes_per_minute=1_000_000)
    local = sdk.LocalRelayBuilder().rate_limit(limits).build()
    await local.run()
    yield Local(str(await local.url()))
    local.shutdown()


class Lag:
    """Reads nothing from the relay between the first event of `stranger` and `end`, and counts the results that are
    pushed."""

    def __init__(self, pool: RelayPool, stranger: str) -> None:
        self.over = asyncio.Event()
        self.pushed: set[str] = set()
        self._stranger = stranger
        (self._connection,) = pool._connections.values()
        self._receive = self._connection._receive
        self._connection._receive = self._late

    async def _late(self, message: m.RelayMessage) -> None:
        match message:
            case m.EventMessage(event) if event.pubkey == self._stranger:
                await self.over.wait()
            case m.EventMessage(event, name) if event.kind in RESULT_KINDS and name.startswith("answers"):
                self.pushed.add(event.id)
        # Most messages are dealt with at once.
        if (pending := self._receive(message)) is not None:
            await pending


async def storm(url: str, stranger: SecretKey, customer: str) -> None:
    """More than fits on the way to a customer who does not read, and more than the relay keeps for one."""
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
        # Unchecked: a provider that has proven nothing yet would be sent two jobs at once and no more.
        async with SwarmClient(pool, secret, settings=SwarmSettings(checks=None)) as swarm:
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
    serving = [await serve(name=f"provider{n}", slots=64, delay_s=3.0) for n in range(PROVIDERS)]
    stranger = SecretKey.generate()

    async def until(jobs: int, *states: str) -> None:
        async with asyncio.timeout(30):
            while sum([(await one.journal.counts()).get(state, 0) for one in serving for state in states]) < jobs:
                await asyncio.sleep(0.02)

    async with customer(relay.url, PROVIDERS) as (swarm, pool, public):
        lag = Lag(pool, stranger.public)
        run = asyncio.create_task(swarm.map(QUESTIONS))
        await until(100, "queued", "settled")
        # The way to the customer is full before they are answered, and what the relay keeps for it is afterwards.
        await storm(relay.url, stranger, public)
        await until(100, "settled")
        await storm(relay.url, stranger, public)
        lag.over.set()
        answers = check(await run, serving)
    never_pushed = [answer for answer in answers if answer.result_id not in lag.pushed]
    assert never_pushed, "the relay dropped nothing: this test has shown nothing"
