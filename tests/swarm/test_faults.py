"""The shipped customer and providers over a relay with faults: every job is answered, once."""

from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from pylon.jobs.kinds import DELETION, FEEDBACK, REQUEST_KINDS, RESULT_KINDS
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.relay.server import RelayServer
from pylon.swarm.client import SwarmClient
from pylon.swarm.job import Answer
from pylon.swarm.settings import SwarmSettings
from tests.fault_relay import FaultRelay, Faults
from tests.swarm.test_exchange import serve
from tests.waiting import until

JOBS = 40


def is_answer(event: dict[str, Any]) -> bool:
    return event["kind"] in RESULT_KINDS


def is_job(event: dict[str, Any]) -> bool:
    """A request, feedback or a result."""
    return event["kind"] in RESULT_KINDS | REQUEST_KINDS | {FEEDBACK}


@pytest.mark.parametrize(
    ("faults", "both"),
    [
        pytest.param(Faults(drop=0.3, only=is_answer), False, id="a third of what is pushed is lost"),
        pytest.param(
            Faults(duplicate=0.5, reorder=0.3, delay=0.3, only=is_answer), False, id="doubled, shuffled and late"
        ),
        pytest.param(Faults(forge=0.3, hang_up=0.02, only=is_answer), False, id="forged, and the line breaks"),
        pytest.param(Faults(drop=0.3, only=is_job), True, id="requests are lost too", marks=[pytest.mark.slow]),
    ],
)
async def test_whatever_a_relay_does_to_live_events_every_job_is_answered_once(
    faults: Faults, both: bool, tmp_path: Path
) -> None:
    """With `both` the providers are behind the faults too: what they are sent is lost as well."""
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(FaultRelay("", faults))
        relay = await stack.enter_async_context(RelayServer(public_urls=[proxy.url]))
        proxy.upstream = relay.url
        for n in range(2):
            await serve(stack, proxy if both else relay, tmp_path / f"{n}.db")
        secret = SecretKey.generate()
        pool = RelayPool([proxy.url], secret=secret)
        pool.start()
        stack.push_async_callback(pool.close)
        # Checks would ask some questions twice, on purpose.
        client = SwarmClient(pool, secret, settings=SwarmSettings(checks=None))
        swarm = await stack.enter_async_context(client)
        await until(lambda: sum(not listing.loading for listing in swarm.directory) >= 2, within_s=60)
        outcomes = await swarm.map([f"question number {n}" for n in range(JOBS)], deadline_s=110.0)
        texts = [outcome.text for outcome in outcomes if isinstance(outcome, Answer)]
        assert len(texts) == JOBS, [str(o) for o in outcomes if not isinstance(o, Answer)]
        assert all(f"question number {n}" in text for n, text in enumerate(texts))
        assert sum(proxy.counted.values()) > 0
        quiet = RelayPool([relay.url], secret=secret)
        quiet.start()
        stack.push_async_callback(quiet.close)
        await quiet.wait_open()
        results = await quiet.query((Filter(kinds=RESULT_KINDS, tags={"p": frozenset({secret.public})}),))
        answered = Counter(event.tag("e") for event in results)
        assert set(answered.values()) == {1}, "no request was worked on twice"


def is_word(event: dict[str, Any]) -> bool:
    """What a provider says to a customer."""
    return event["kind"] in RESULT_KINDS | {FEEDBACK}


@pytest.mark.parametrize("thrown", [is_word, is_job], ids=["answers", "requests and answers"])
async def test_a_relay_that_says_ok_and_throws_jobs_away_costs_no_answer_where_another_is_shared(
    thrown: Callable[[dict[str, Any]], bool], tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        good = await stack.enter_async_context(RelayServer())
        bad = await stack.enter_async_context(FaultRelay("", Faults(swallow=1.0, only=thrown)))
        behind = await stack.enter_async_context(RelayServer(public_urls=[bad.url]))
        bad.upstream = behind.url
        provider = await serve(stack, good, tmp_path / "provider.db", others=(bad.url,))
        secret = SecretKey.generate()
        pool = RelayPool([good.url, bad.url], secret=secret)
        pool.start()
        stack.push_async_callback(pool.close)
        assert len(await pool.opened(10.0)) == 2
        swarm = await stack.enter_async_context(SwarmClient(pool, secret, settings=SwarmSettings(checks=None)))
        await until(lambda: any(not listing.loading for listing in swarm.directory), within_s=60)
        outcomes = await swarm.map([f"question number {n}" for n in range(JOBS)], deadline_s=60.0)
        assert all(isinstance(outcome, Answer) for outcome in outcomes)
        assert bad.counted["swallow"] > 0
        seen = await pool.query((Filter(kinds=RESULT_KINDS | {DELETION}),))
        assert {event.pubkey for event in seen} == {provider}, "none was given up, and none is asked for anew"
        assert Counter(event.tag("e") for event in seen).most_common(1)[0][1] == 1, "none was worked on twice"
        assert len(seen) == JOBS
        # A handful of losses decides, and how many there were is the relays' load's to say.
        rounds = 0
        lost = -1
        while bad.counted["swallow"] != lost and rounds < 5:
            lost, rounds = bad.counted["swallow"], rounds + 1
            assert all(
                isinstance(outcome, Answer) for outcome in await swarm.map([f"{rounds} {n}" for n in range(8)])
            )
        assert bad.counted["swallow"] == lost, "nothing goes over that relay for a while"
