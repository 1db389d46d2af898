"""The customer of a benchmark: the shipped `SwarmClient`, in a process of its own."""

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import psutil

from pylon.bench.credit import BID, NoWallet
from pylon.bench.floor import Sizes
from pylon.bench.process import Calls, Settings, serve
from pylon.bench.prose import prose
from pylon.clock import SystemClock
from pylon.collect import keep_for_good
from pylon.errors import UnreachableError
from pylon.jobs.kinds import RESULT_KINDS, RLM_REQUEST
from pylon.money.limits import PLAY_CAPS
from pylon.money.msat import ZERO
from pylon.money.network import Network
from pylon.money.payments.sender import Sender, SendPolicy
from pylon.money.schema import MONEY
from pylon.nostr import messages
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.store.database import Database
from pylon.store.group import GroupCommit
from pylon.swarm.client import SwarmClient
from pylon.swarm.job import Answer, JobSpec, Outcome
from pylon.swarm.runs.journal import RunJournal
from pylon.swarm.schema import SWARM
from pylon.swarm.settings import CheckSettings, SwarmSettings
from pylon.swarm.spending.account_purse import AccountPurse

TIMEOUT_S = 300.0
MAX_TOKENS = 32
SAMPLE = 200


@dataclass(frozen=True, slots=True)
class Books:
    """The database of a customer with accounts: its runs, and what it was charged."""

    database: Database
    group: GroupCommit
    clock: SystemClock

    @classmethod
    async def open(cls, path: Path, stack: AsyncExitStack) -> Self:
        database = await Database.open(path, [MONEY, SWARM], label="play")
        stack.push_async_callback(database.close)
        group = GroupCommit(database)
        group.start()
        stack.push_async_callback(group.close)
        return cls(database, group, SystemClock())

    def purse(self, customer: str) -> AccountPurse:
        """Accounts with all providers, before a wallet that pays nothing."""
        policy = SendPolicy(Network.PLAY, PLAY_CAPS, lambda: False)
        sender = Sender(self.database, NoWallet(), policy, self.clock)
        return AccountPurse(
            database=self.database, group=self.group, sender=sender, clock=self.clock, customer=customer,
            run="benchmark",
        )  # fmt: skip

    async def journal(self, specs: list[JobSpec]) -> RunJournal:
        return await RunJournal.open(self.database, self.group, self.clock, specs, resume=False)


@dataclass
class Customer:
    """One customer and the functions that its process offers. `met` are providers that have answered it before."""

    secret: SecretKey
    keys: ConversationKeys
    pool: RelayPool
    client: SwarmClient
    books: Books | None
    met: set[str] = field(default_factory=set)
    prompts: list[str] = field(default_factory=list)

    async def find(self, providers: int, within_s: float) -> dict[str, int]:
        """Waits until so many providers are listed and ready. Raises `UnreachableError` after `within_s` seconds."""
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
        self.client.change_circle(allow=frozenset(keys), own=frozenset())
        return {}

    async def map(self, fresh: bool) -> dict[str, object]:
        """Maps the prepared prompts; returns the counts and times of the map.

        An idle client agrees on keys with providers ahead of time. `fresh` forgets these, so that the map's time
        holds every key agreement that its floor counts.
        """
        specs = [JobSpec(prompt, max_tokens=MAX_TOKENS, timeout=TIMEOUT_S) for prompt in self.prompts]
        if fresh:
            self.keys.clear()
        known = self.keys.kept
        started = time.perf_counter()
        journal = None if self.books is None else await self.books.journal(specs)
        outcomes = await self.client.map(specs, deadline_s=TIMEOUT_S, journal=journal)
        wall_s = time.perf_counter() - started
        answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
        providers = {answer.provider for answer in answers}
        new = providers - self.met
        self.met |= providers
        return {
            "completed": sum(map(_is_good, self.prompts, outcomes)),
            "wall_s": wall_s,
            # One by each side of a pair that is new.
            "agreements": len(new) + self.keys.kept - known,
            "providers": len(providers),
            "sent": sum(outcome.attempts for outcome in outcomes),
            "paid_msat": sum(int(answer.paid) for answer in answers),
            "rss_mb": psutil.Process().memory_info().rss / 1e6,
        }

    async def sizes(self) -> dict[str, object]:
        """Mean bytes of a job of the last map, on the wire and before encryption. Raises `UnreachableError`."""
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


def _is_good(prompt: str, outcome: Outcome) -> bool:
    # The stand-in's answer holds a digest of its prompt, so an answer in the wrong place is noticed.
    digest = hashlib.sha256(prompt.encode()).hexdigest()[:8]
    return isinstance(outcome, Answer) and outcome.text.startswith(f"stand-in answer {digest}: ")


def _message_bytes(events: list[Event]) -> int:
    return round(sum(len(messages.encode(messages.EventMessage(event, "jobs1"))) for event in events) / len(events))


@asynccontextmanager
async def customer(settings: Settings) -> AsyncIterator[tuple[object, Calls]]:
    """Opens the customer. Settings: `relays` are their addresses; `checks` verifies answers as a node does.

    With `accounts` it has a journal of its maps and an account with every provider, in a database in `folder`.
    """
    secret = SecretKey.generate()
    keys = ConversationKeys(secret)
    pool = RelayPool(settings["relays"], secret=secret)
    pool.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(pool.close)
        await pool.wait_open(30.0)
        books = purse = None
        if settings.get("accounts"):
            books = await Books.open(Path(settings["folder"]) / "pylon.db", stack)
            purse = books.purse(secret.public)
            stack.push_async_callback(purse.close)
        rules = SwarmSettings(
            checks=CheckSettings() if settings.get("checks") else None, bid=ZERO if purse is None else BID
        )
        client = SwarmClient(pool, secret, keys=keys, settings=rules, purse=purse)
        if purse is not None:
            purse.changed = client.reconsider
            await purse.start()
        await stack.enter_async_context(client)
        made = Customer(secret, keys, pool, client, books)
        calls: Calls = {"find": made.find, "prepare": made.prepare, "map": made.map, "sizes": made.sizes}
        yield {}, {**calls, "only": made.only}


if __name__ == "__main__":
    serve(customer)
