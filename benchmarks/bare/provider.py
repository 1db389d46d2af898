"""The bare provider: answers each request in place and publishes the result."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import orjson

from benchmarks.bare import events
from benchmarks.bare.books import Books
from benchmarks.bare.client import Client
from benchmarks.bare.events import CHARGE_MSAT, REQUEST, RESULT, Event
from pylon.bench.process import Calls, Settings, serve
from pylon.collect import keep_for_good
from pylon.errors import DecryptionError, MalformedError
from pylon.nostr.crypto.nip44 import decrypt, encrypt

SCHEMA = "CREATE TABLE job (id TEXT PRIMARY KEY, customer TEXT, charge INTEGER, result BLOB) STRICT"
TAKEN = "INSERT INTO job VALUES (?, ?, ?, NULL)"
DONE = "UPDATE job SET result = ? WHERE id = ?"


class Provider(Client):
    """One of many providers in a process, which share a database."""

    kind = REQUEST

    def __init__(self, url: str, books: Books | None = None) -> None:
        super().__init__(url)
        self._books = books

    def answer(self, prompt: str) -> bytes:
        """The plaintext of the result."""
        return events.result_text(prompt)

    def taken(self, event: Event) -> None:
        try:
            inside = orjson.loads(decrypt(self.key(event["pubkey"]), event["content"]))
        except (DecryptionError, MalformedError, orjson.JSONDecodeError):
            return
        match inside:
            case {"text": str(prompt)}:
                self._begin(event, prompt)

    def _begin(self, event: Event, prompt: str) -> None:
        work = partial(self._work, event, prompt)
        if self._books is None:
            work()
        else:
            self._books.write(TAKEN, (event["id"], event["pubkey"], CHARGE_MSAT), work)

    def _work(self, request: Event, prompt: str) -> None:
        content = encrypt(self.key(request["pubkey"]), self.answer(prompt))
        result = self.author.sign(RESULT, events.result_tags(request), content)
        send = partial(self.publish, result)
        if self._books is None:
            send()
        else:
            self._books.write(DONE, (orjson.dumps(result), request["id"]), send)


@asynccontextmanager
async def providers(settings: Settings) -> AsyncIterator[tuple[object, Calls]]:
    """Opens the providers. Settings: `books` says whether to store rows, in `folder`."""
    books = Books(Path(settings["folder"]) / "books.db", SCHEMA, "FULL") if settings["books"] else None
    made: list[Provider] = []

    async def start(relay: str, providers: int) -> dict[str, object]:
        made.extend([await Provider(relay, books).start() for _ in range(providers)])
        keep_for_good()
        return {"keys": [provider.author.public for provider in made]}

    async def acknowledged() -> dict[str, object]:
        return {"waiting": sum(len(one.waiting) for one in made), "refused": sum(one.refused for one in made)}

    yield {}, {"start": start, "acknowledged": acknowledged}
    if books is not None:
        books.close()


if __name__ == "__main__":
    serve(providers)
