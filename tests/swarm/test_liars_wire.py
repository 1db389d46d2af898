"""Seven kinds of liars on the real stack: a relay, providers that serve over it, and engines of which two lie."""

import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from pylon.bench.providers import EngineShare
from pylon.clock import SystemClock
from pylon.inference.engine import EngineSpec, Generation, GenerationRequest, Progress
from pylon.inference.instant import MODEL_ID
from pylon.inference.service import InferenceService
from pylon.money.schema import MONEY
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.provider.journal import Journal
from pylon.provider.rows import SCHEMA
from pylon.provider.service import Provider
from pylon.provider.settings import ProviderSettings
from pylon.relay.server import RelayServer
from pylon.swarm.client import SwarmClient
from pylon.swarm.job import Answer, JobSpec
from tests.opened import opened_database
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HONEST, LIARS = 18, 2
SLEEPS = 30

# What a liar says: of the prompt, how many answers it has given, and the answer that its engine gave.
type Lie = Callable[[str, int, str], str]


def wrong(prompt: str) -> str:
    return f"in my opinion it is {random.Random(prompt).randrange(10**6)}, and nothing else"


KINDS: dict[str, Lie] = {
    "wrong model": lambda prompt, given, right: f"another model says: {right[::-1]}",
    "echo": lambda prompt, given, right: prompt,
    "truncate": lambda prompt, given, right: right[: len(right) // 2],
    "invent": lambda prompt, given, right: f"invented number {given} of {id(prompt)} by me",
    "colluding pair": lambda prompt, given, right: wrong(prompt),
    "sleeper": lambda prompt, given, right: wrong(prompt) if given >= SLEEPS else right,
    "selective": lambda prompt, given, right: wrong(prompt) if random.Random(prompt).random() < 0.2 else right,
}
# Each of twenty gives a hundred answers then, or 225: docs/swarm.md says what that is enough for.
JOBS = {"sleeper": 2_000, "selective": 4_500}
ASKED_UNTIL_OUT = {"sleeper": 100, "selective": None}


class Liar(EngineShare):
    """An engine's answers on their way through somebody who changes them."""

    def __init__(self, engine: InferenceService, lie: Lie) -> None:
        super().__init__(engine, slots=1)
        self.lie = lie
        self.given = 0

    async def generate(
        self, request: GenerationRequest, on_progress: Callable[[Progress], None] | None = None
    ) -> Generation:
        made = await super().generate(request)
        text = self.lie(request.messages[-1].content, self.given, made.text)
        self.given += 1
        return replace(made, text=text, completion_tokens=max(1, len(text.split())))


@pytest.mark.parametrize("kind", KINDS)
async def test_liars_that_serve_over_a_relay_are_left_out_and_deliver_hardly_anything(
    kind: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer())
        database, group = await stack.enter_async_context(
            opened_database(tmp_path / "pylon.db", SCHEMA, MONEY, label="play")
        )
        engine = InferenceService(
            EngineSpec("instant", MODEL_ID, slots=HONEST + LIARS, options={"delay_s": 0.02}), SystemClock()
        )
        await engine.start()
        stack.push_async_callback(engine.close)

        async def joins(inference: InferenceService) -> str:
            secret = SecretKey.generate()
            pool = RelayPool([relay.url], secret=secret)
            pool.start()
            stack.push_async_callback(pool.close)
            await pool.wait_open()
            keys, journal = ConversationKeys(secret), Journal(database, group)
            provider = Provider(
                secret=secret,
                keys=keys,
                pool=pool,
                inference=inference,
                journal=journal,
                settings=ProviderSettings(),
                model=MODEL_ID,
            )
            await provider.start()
            stack.push_async_callback(provider.close)
            return secret.public

        async def customer() -> SwarmClient:
            secret = SecretKey.generate()
            pool = RelayPool([relay.url], secret=secret)
            pool.start()
            stack.push_async_callback(pool.close)
            swarm = await stack.enter_async_context(SwarmClient(pool, secret))
            await until(
                lambda: sum(not listing.loading for listing in swarm.directory) >= HONEST + LIARS, within_s=60
            )
            return swarm

        liars = {await joins(engine_): engine_ for engine_ in (Liar(engine, KINDS[kind]) for _ in range(LIARS))}
        for _ in range(HONEST):
            await joins(EngineShare(engine, slots=1))
        swarm = await customer()
        asked_until_out: dict[str, int] = {}

        def look(_: object) -> None:
            for key, engine_ in liars.items():
                if key not in asked_until_out and swarm.reputation.is_out(key, time.time()):
                    asked_until_out[key] = engine_.given

        specs = [JobSpec(f"question number {n} of a long list", max_tokens=64) for n in range(JOBS.get(kind, 600))]
        outcomes = await swarm.map(specs, on_progress=look, deadline_s=800)
        answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
        assert len(answers) == len(specs)
        bad = sum(not is_right(spec.prompt, answer) for spec, answer in zip(specs, answers, strict=True))
        checks = swarm._parts.deciders.checks
        assert checks is not None
        asked = checks.examination.asked
        out = ", ".join(str(asked_until_out.get(key, "never")) for key in liars)
        figures = f"| {kind} | {len(specs):,} | {bad} | {out} | {asked} | {asked / len(specs):.1%} |"
        print(figures)  # noqa: T201 - a row of docs/benchmarks.md, for who runs it with -s
        assert bad <= len(specs) / 100
        # Only where a run is small may what must be decided overdraw the share, by ten jobs.
        assert asked <= 0.05 * len(specs) + (1 if len(specs) >= 1_000 else 11)
        limit = ASKED_UNTIL_OUT.get(kind, 20)
        if limit is not None:
            assert set(asked_until_out) == set(liars) and max(asked_until_out.values()) <= limit + 2
        honest = {answer.provider for answer in answers} - set(liars)
        assert not any(swarm.reputation.is_out(key, time.time()) for key in honest)


def is_right(prompt: str, answer: Answer) -> bool:
    return answer.text.startswith("stand-in answer ") and prompt in answer.text
