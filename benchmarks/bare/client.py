"""The common part of customer and provider: a key, a connection to the relay, and the keys agreed with peers."""

import asyncio
from typing import Self

import orjson
from websockets.typing import BytesLike

from benchmarks.bare.events import Author, Event, holds, is_over, tag
from benchmarks.bare.wire import Peer, client, connect
from pylon.nostr.crypto.nip44 import conversation_key


class Client(Peer):
    """Reads the events of one kind that are addressed to its key; `taken` gets each valid one, once."""

    kind: int

    def __init__(self, url: str) -> None:
        super().__init__(client(url))
        self.author = Author()
        # Events that the relay has not acknowledged yet, and the number that it refused.
        self.waiting: set[str] = set()
        self.refused = 0
        self._url = url
        self._listens = asyncio.get_running_loop().create_future()
        self._keys: dict[str, bytes] = {}
        self._seen: set[str] = set()

    async def start(self) -> Self:
        """Connects and subscribes."""
        await connect(self, self._url)
        self.send(orjson.dumps(("REQ", "jobs", {"kinds": [self.kind], "#p": [self.author.public]})))
        await self._listens
        return self

    def taken(self, event: Event) -> None:
        """Takes one event."""
        raise NotImplementedError

    def publish(self, event: Event) -> None:
        """Sends an event to the relay."""
        self.waiting.add(event["id"])
        self.send(orjson.dumps(("EVENT", event)))

    def key(self, peer: str) -> bytes:
        """The key agreed with this peer. Raises `MalformedError`."""
        key = self._keys.get(peer)
        if key is None:
            key = self._keys[peer] = conversation_key(self.author.secret, peer)
        return key

    def received(self, data: BytesLike) -> None:
        match orjson.loads(data):
            case ["EVENT", "jobs", event]:
                if self._is_for_us(event):
                    self._seen.add(event["id"])
                    self.taken(event)
            case ["OK", str(id_), accepted, *_]:
                self.waiting.discard(id_)
                self.refused += accepted is not True
            case ["EOSE", "jobs"] if not self._listens.done():
                self._listens.set_result(None)

    def _is_for_us(self, event: Event) -> bool:
        return (
            holds(event)
            and event["kind"] == self.kind
            and tag(event, "p") == self.author.public
            and event["id"] not in self._seen
            and not is_over(event)
        )
