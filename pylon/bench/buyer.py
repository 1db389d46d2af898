"""A benchmark's customer: the shipped `SwarmClient` in a process of its own."""

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field

import psutil

from pylon.bench.floor import Sizes
from pylon.bench.part import Calls, Settings, serve
from pylon.collect import keep_for_good
from pylon.errors import UnreachableError
from pylon.jobs.kinds import RESULT_KINDS, RLM_REQUEST
from pylon.nostr import messages
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.nip44 import ConversationKeys
from pylon.nostr.pool import RelayPool
from pylon.swarm.client import SwarmClient
from pylon.swarm.job import Answer, JobSpec, Outcome
from pylon.swarm.settings import SwarmSettings

TIMEOUT_S = 300.0
MAX_TOKENS = 32
SAMPLE = 200


@dataclass
class Buyer:
    """One customer, its connections, and whom it has met."""

    secret: SecretKey
    keys: ConversationKeys
    pool: RelayPool
    client: SwarmClient
    met: set[str] = field(default_factory=set)
    prompts: list[str] = field(default_factory=list)

    async def find(self, providers: int, within_s: float) -> dict[str, int]:
        """Waits until so many providers are listed and ready."""
        deadline = time.monotonic() + within_s
        while (found := sum(not listing.loading for listing in self.client.directory)) < providers:
            if time.monotonic() > deadline:
                raise UnreachableError(f"only {found} of {providers} providers were seen within {within_s:g} s")
            await asyncio.sleep(0.05)
        keep_for_good()
        return {"providers": found}

    async def prepare(self, jobs: int, size: int, seed: int) -> dict[str, object]:
        """Draws distinct prompts of `size` bytes for the next map."""
        rng = random.Random(seed)  # noqa: S311 - reproducible, nothing secret
        self.prompts = [prose(rng, size) for _ in range(jobs)]
        return {}

    async def only(self, keys: list[str]) -> dict[str, object]:
        """From now on these providers alone are asked."""
        self.client.change_company(allow=frozenset(keys), own=frozenset())
        return {}

    async def map(self, fresh: bool) -> dict[str, object]:
        """Maps the prompts; what came of it, and how long it took.

        `fresh` forgets the keys that the client agreed on while it was idle, as it always does: what would not be
        in the time must not be in what the time is compared with.
        """
        specs = [JobSpec(prompt, max_tokens=MAX_TOKENS, timeout=TIMEOUT_S) for prompt in self.prompts]
        if fresh:
            self.keys.clear()
        known = self.keys.kept
        started = time.perf_counter()
        outcomes = await self.client.map(specs, deadline_s=TIMEOUT_S)
        wall_s = time.perf_counter() - started
        answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
        providers = {answer.provider for answer in answers}
        new = providers - self.met
        self.met |= providers
        return {
            "completed": sum(map(_is_good, self.prompts, outcomes)),
            "wall_s": wall_s,
            # One a side and new pair.
            "agreements": len(new) + self.keys.kept - known,
            "providers": len(providers),
            "sent": sum(outcome.attempts for outcome in outcomes),
            "rss_mb": psutil.Process().memory_info().rss / 1e6,
        }

    async def sizes(self) -> dict[str, object]:
        """What one job of the last map weighed on the wire, on average."""
        me = frozenset({self.secret.public})
        asked = Filter(kinds=frozenset({RLM_REQUEST}), authors=me, limit=SAMPLE)
        answered = Filter(kinds=RESULT_KINDS, tags={"p": me}, limit=SAMPLE)
        requests = await self.pool.query((asked,))
        results = await self.pool.query((answered,))
        if not requests or not results:
            raise UnreachableError("the relay has forgotten the jobs that it carried")
        return asdict(
            Sizes(
                round(sum(len(self.keys.decrypt(e.tag("p") or "", e.content)) for e in requests) / len(requests)),
                round(sum(len(self.keys.decrypt(e.pubkey, e.content)) for e in results) / len(results)),
                _message_bytes(requests),
                _message_bytes(results),
            )
        )


def prose(rng: random.Random, size: int) -> str:
    """Words of random letters: a text that compresses worse than any that people write."""
    words: list[str] = []
    length = 0
    while length <= size:
        word = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9)))
        words.append(word)
        length += len(word) + 1
    return " ".join(words)[:size]


def _is_good(prompt: str, outcome: Outcome) -> bool:
    # The stand-in's answer names the whole prompt that it saw: one in another's place would show.
    digest = hashlib.sha256(prompt.encode()).hexdigest()[:8]
    return isinstance(outcome, Answer) and outcome.text.startswith(f"stand-in answer {digest}: ")


def _message_bytes(events: list[Event]) -> int:
    return round(sum(len(messages.encode(messages.EventMessage(event, "jobs1"))) for event in events) / len(events))


@asynccontextmanager
async def buyer(settings: Settings) -> AsyncIterator[tuple[object, Calls]]:
    """`relays` are the addresses of all; with `checks` answers are checked as they are outside of benchmarks."""
    secret = SecretKey.generate()
    keys = ConversationKeys(secret)
    pool = RelayPool(settings["relays"], secret=secret)
    pool.start()
    try:
        await pool.wait_open(30.0)
        rules = SwarmSettings() if settings.get("checks") else SwarmSettings(checks=None)
        async with SwarmClient(pool, secret, keys=keys, settings=rules) as client:
            made = Buyer(secret, keys, pool, client)
            calls: Calls = {"find": made.find, "prepare": made.prepare, "map": made.map, "sizes": made.sizes}
            yield {}, {**calls, "only": made.only}
    finally:
        await pool.close()


if __name__ == "__main__":
    serve(buyer)
