"""kill -9 of a serving node at any moment of a run: every job ends with exactly one result."""

import asyncio
import random
from contextlib import AsyncExitStack

import pytest

from pylon.jobs.kinds import RESULT_KINDS
from pylon.nostr.bech32 import nip19
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.relay.server import RelayServer
from tests.customer import Customer
from tests.node import programs

JOBS = 200


def answered(customer: Customer) -> set[str | None]:
    return {event.tag("e") for event in customer.answers if event.kind in RESULT_KINDS}


@pytest.mark.parametrize(
    "seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
async def test_a_provider_killed_again_and_again_gives_every_job_exactly_one_result(tmp_path, seed):
    rng = random.Random(seed)
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        env = programs.environment(
            tmp_path / "home",
            relay.url,
            PYLON_INFERENCE__INSTANT_DELAY_S="0.1",
            PYLON_INFERENCE__SLOTS="8",
        )
        _, made, _ = await programs.run("init", env=env)
        provider = nip19.parse_public_key(made["npub"])
        secret = SecretKey.generate()
        pool = RelayPool([relay.url], secret=secret)
        pool.start()
        stack.push_async_callback(pool.close)
        customer = Customer(pool, secret)
        stack.push_async_callback(customer.close)

        serving = await programs.start(env, stack)
        asking = asyncio.gather(
            *(customer.ask(provider, customer.job(f"job {n}", expires_in=300)) for n in range(JOBS))
        )
        for _ in range(4):
            await asyncio.sleep(rng.uniform(0.1, 0.8))
            await serving.kill()
            serving = await programs.start(env, stack)
        requests = await asking
        await customer.until(lambda: len(answered(customer)) == JOBS, timeout=90)
        # Time for a second result, if there is to be one.
        await asyncio.sleep(0.5)
        stored = []
        for at in range(0, JOBS, 100):
            ids = frozenset(request.id for request in requests[at : at + 100])
            stored += await pool.query((Filter(kinds=RESULT_KINDS, tags={"e": ids}),))
        assert len(stored) == JOBS
        assert {event.tag("e") for event in stored} == {request.id for request in requests}
        # Its customer may have the last result before its journal has the relay's word for it.
        async with asyncio.timeout(60):
            while (await programs.run("status", env=env))[1]["provider"]["jobs"] != {"settled": JOBS}:
                await asyncio.sleep(0.1)
        assert await serving.stop() == 0
