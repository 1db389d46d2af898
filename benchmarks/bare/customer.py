"""The bare customer: one request to each of its providers in turn, and their answers."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path

import orjson

from benchmarks.bare import events
from benchmarks.bare.books import Books
from benchmarks.bare.client import Client
from benchmarks.bare.events import REQUEST, RESULT, Event, tag
from pylon.bench.floor import Sizes
from pylon.bench.process import Calls, Settings, serve
from pylon.bench.prose import prose
from pylon.collect import keep_for_good
from pylon.errors import DecryptionError, MalformedError, UnreachableError
from pylon.nostr.crypto.nip44 import decrypt, encrypt

SCHEMA = """
    CREATE TABLE request (id TEXT PRIMARY KEY, provider TEXT, prompt TEXT) STRICT;
    CREATE TABLE receipt (request TEXT PRIMARY KEY, receipt TEXT) STRICT;
"""
ASKED = "INSERT INTO request VALUES (?, ?, ?)"
PAID = "INSERT INTO receipt VALUES (?, ?)"
# Requests that are sent before the event loop handles what has come.
AT_ONCE = 8
MAP_S = 60.0


class Customer(Client):
    """Maps prompts. Its attributes hold the results of the last map."""

    kind = RESULT

    def __init__(self, url: str, books: Books | None = None) -> None:
        super().__init__(url)
        self.completed = 0
        self._books = books
        self._jobs = 0
        self._todo: Iterator[tuple[str, str]] = iter(())
        # By the id of the request: its provider and its prompt.
        self._asked: dict[str, tuple[str, str]] = {}
        self._met: set[str] = set()
        self._done = asyncio.Event()
        # The last request and result, as samples of their size.
        self._request: Event = {}
        self._result: Event = {}

    async def map(self, prompts: list[str], providers: list[str], within_s: float = MAP_S) -> dict[str, object]:
        """Sends each prompt to a provider of its own, in turn, and waits for the answers."""
        asked = [(providers[number % len(providers)], prompt) for number, prompt in enumerate(prompts)]
        new = {provider for provider, _ in asked} - self._met
        self._met |= new
        self.completed = 0
        self._todo, self._jobs = iter(asked), len(asked)
        self._done.clear()
        started = time.perf_counter()
        self._ask()
        try:
            async with asyncio.timeout(within_s):
                await self._done.wait()
        except TimeoutError:
            self._asked.clear()
        wall_s = time.perf_counter() - started
        # One key agreement by each side of a new pair.
        return {"completed": self.completed, "wall_s": wall_s, "agreements": 2 * len(new), "refused": self.refused}

    def _ask(self) -> None:
        some = list(islice(self._todo, AT_ONCE))
        for provider, prompt in some:
            plain = events.request_text(prompt)
            event = self.author.sign(REQUEST, events.request_tags(provider), encrypt(self.key(provider), plain))
            self._asked[event["id"]] = provider, prompt
            self._request = event
            if self._books is None:
                self.publish(event)
            else:
                self._books.write(ASKED, (event["id"], provider, prompt), partial(self.publish, event))
        if some:
            self._loop.call_soon(self._ask)

    def taken(self, event: Event) -> None:
        request = tag(event, "e")
        provider, prompt = self._asked.get(request, ("", ""))
        if event["pubkey"] != provider:
            return
        try:
            result = orjson.loads(decrypt(self.key(provider), event["content"]))
            text, receipt = result["text"], next(one for one in result["tags"] if one[0] == "account")
        except (DecryptionError, MalformedError, orjson.JSONDecodeError, LookupError, TypeError, StopIteration):
            return
        if text != events.answer(prompt):
            return
        del self._asked[request]
        self._result = event
        if self._books is None:
            self._complete()
        else:
            self._books.write(PAID, (request, orjson.dumps(receipt).decode()), self._complete)

    def _complete(self) -> None:
        self.completed += 1
        if self.completed == self._jobs:
            self._done.set()

    def sizes(self) -> Sizes:
        """The bytes of a job: of the last request and result. Raises `UnreachableError` before there are any."""
        request, result = self._request, self._result
        if not result:
            raise UnreachableError("no answer came")
        return Sizes(
            len(decrypt(self.key(tag(request, "p")), request["content"])),
            len(decrypt(self.key(result["pubkey"]), result["content"])),
            len(orjson.dumps(("EVENT", "jobs", request))),
            len(orjson.dumps(("EVENT", "jobs", result))),
        )


@asynccontextmanager
async def customer(settings: Settings) -> AsyncIterator[tuple[object, Calls]]:
    """Opens the customer. Settings: `books` says whether to store rows, in `folder`; `relay` is the address."""
    books = Books(Path(settings["folder"]) / "books.db", SCHEMA, "FULL") if settings["books"] else None
    made = await Customer(settings["relay"], books).start()
    providers: list[str] = []
    prompts: list[str] = []

    async def meet(keys: list[str]) -> dict[str, object]:
        providers[:] = keys
        keep_for_good()
        return {}

    async def prepare(jobs: int, size: int, seed: int) -> dict[str, object]:
        rng = random.Random(seed)
        prompts[:] = [prose(rng, size) for _ in range(jobs)]
        return {}

    async def map_(fresh: bool) -> dict[str, object]:  # noqa: ARG001 - nothing is agreed on ahead of need here
        return await made.map(prompts, providers)

    async def sizes() -> dict[str, object]:
        return asdict(made.sizes())

    async def acknowledged() -> dict[str, object]:
        return {"waiting": len(made.waiting), "refused": made.refused}

    yield {}, {"meet": meet, "prepare": prepare, "map": map_, "sizes": sizes, "acknowledged": acknowledged}
    if books is not None:
        books.close()


if __name__ == "__main__":
    serve(customer)
