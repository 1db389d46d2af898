"""A client that says exactly what a test wants said, and events to say it with."""

import asyncio
import time
from contextlib import asynccontextmanager

import orjson
from websockets.asyncio.client import connect

from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey

ALICE = SecretKey(bytes([1] * 32))
BOB = SecretKey(bytes([2] * 32))
EVE = SecretKey(bytes([3] * 32))


def note(key=ALICE, *, kind=1, content="x", tags=(), created_at=None):
    created_at = int(time.time()) if created_at is None else created_at
    return key.sign(EventDraft(kind=kind, content=content, tags=tuple(map(tuple, tags)), created_at=created_at))


def proof(peer, key, url, **changes):
    """The event that authenticates a key to a relay (NIP-42)."""
    draft = {"kind": 22242, "content": "", "tags": [("relay", url), ("challenge", peer.challenge)], **changes}
    return note(key, **draft)


class Peer:
    def __init__(self, websocket, challenge):
        self.websocket = websocket
        self.challenge = challenge
        self._fetches = 0

    async def say(self, *message):
        await self.websocket.send(orjson.dumps(message), text=True)

    async def hear(self):
        async with asyncio.timeout(10):
            return orjson.loads(await self.websocket.recv())

    async def publish(self, event):
        """(accepted, message) of the event's OK; live events in between are passed over."""
        await self.say("EVENT", event.to_dict())
        while True:
            match await self.hear():
                case ["OK", event.id, accepted, text]:
                    return accepted, text

    async def request(self, name, *filters):
        """Ids of the stored events, or the CLOSED message; the subscription stays open."""
        await self.say("REQ", name, *filters)
        ids = []
        while True:
            match await self.hear():
                case ["EVENT", subscription, event] if subscription == name:
                    ids.append(event["id"])
                case ["EOSE", subscription] if subscription == name:
                    return ids
                case ["CLOSED", subscription, text] if subscription == name:
                    return text

    async def fetch(self, *filters):
        """Ids of the stored events, or the CLOSED message; no subscription stays open."""
        self._fetches += 1
        name = f"fetch-{self._fetches}"
        found = await self.request(name, *filters)
        await self.say("CLOSE", name)
        return found

    async def count(self, *filters):
        """The COUNT or CLOSED message; what else is said in between is passed over."""
        await self.say("COUNT", "count", *filters)
        while True:
            match await self.hear():
                case ["COUNT" | "CLOSED", "count", _] as answer:
                    return answer

    async def authenticate(self, key, url, **changes):
        event = proof(self, key, url, **changes)
        await self.say("AUTH", event.to_dict())
        while True:
            match await self.hear():
                case ["OK", event.id, accepted, text]:
                    return accepted, text


@asynccontextmanager
async def peer(relay, **options):
    async with connect(relay.url, compression=None, **options) as websocket:
        kind, challenge = orjson.loads(await websocket.recv())
        assert kind == "AUTH"
        yield Peer(websocket, challenge)
