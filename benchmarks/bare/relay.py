"""The bare relay: checks each event, stores it if told to, and passes it on to the key in its `p` tag."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import orjson
from websockets.server import ServerProtocol
from websockets.typing import BytesLike

from benchmarks.bare.books import Books
from benchmarks.bare.events import Event, holds, tag
from benchmarks.bare.wire import MAX_BYTES, Peer
from pylon.bench.process import Calls, Settings, serve
from pylon.collect import keep_for_good

SCHEMA = "CREATE TABLE event (id TEXT PRIMARY KEY, author TEXT, kind INTEGER, created_at INTEGER, raw BLOB) STRICT"
INSERT = "INSERT OR IGNORE INTO event VALUES (?, ?, ?, ?, ?)"
BACKLOG = 1_024


class Relay:
    """What all connections share. `readers` are found by the kind and the key of their subscription."""

    def __init__(self, books: Books | None) -> None:
        self.books = books
        self.readers: dict[tuple[int, str], Callable[[bytes], None]] = {}


class Session(Peer):
    """One connection."""

    def __init__(self, relay: Relay) -> None:
        super().__init__(ServerProtocol(max_size=MAX_BYTES))
        self._relay = relay

    def received(self, data: BytesLike) -> None:
        try:
            message = orjson.loads(data)
        except orjson.JSONDecodeError:
            return
        match message:
            case ["EVENT", event]:
                self._publish(event)
            case ["REQ", str(name), {"kinds": [int(kind)], "#p": [str(key)]}]:
                self._relay.readers[kind, key] = partial(self._deliver, orjson.dumps(name))
                self.send(b'["EOSE",%b]' % orjson.dumps(name))

    def _publish(self, event: Event) -> None:
        if not holds(event):
            id_ = event.get("id") if isinstance(event, dict) else None
            self.send(orjson.dumps(("OK", id_, False, "invalid: id or signature does not hold")))
            return
        raw = orjson.dumps(event)
        passed_on = partial(self._pass_on, event, raw)
        if self._relay.books is None:
            passed_on()
        else:
            row = (event["id"], event["pubkey"], event["kind"], event["created_at"], raw)
            self._relay.books.write(INSERT, row, passed_on)

    def _pass_on(self, event: Event, raw: bytes) -> None:
        reader = self._relay.readers.get((event["kind"], tag(event, "p")))
        if reader is not None:
            reader(raw)
        self.send(b'["OK","%b",true,""]' % event["id"].encode())

    def _deliver(self, name: bytes, raw: bytes) -> None:
        self.send(b'["EVENT",%b,%b]' % (name, raw))


@asynccontextmanager
async def listening(books: Books | None = None) -> AsyncIterator[str]:
    """A relay's address, for as long as it listens."""
    made = Relay(books)
    server = await asyncio.get_running_loop().create_server(lambda: Session(made), "127.0.0.1", 0, backlog=BACKLOG)
    yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


@asynccontextmanager
async def relay(settings: Settings) -> AsyncIterator[tuple[object, Calls]]:
    """Opens the relay. Settings: `stored` says whether to store events, in `folder`."""
    # synchronous=NORMAL, as in Pylon's relay.
    books = Books(Path(settings["folder"]) / "relay.db", SCHEMA, "NORMAL") if settings["stored"] else None

    async def settle() -> dict[str, object]:
        keep_for_good()
        return {}

    async with listening(books) as url:
        yield {"url": url}, {"settle": settle}
    if books is not None:
        books.close()


if __name__ == "__main__":
    serve(relay)
