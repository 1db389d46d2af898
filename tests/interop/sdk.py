"""nostr-sdk as a peer: it knows relays, keys and NIP-44, and nothing of jobs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import nostr_sdk as sdk
import orjson

WAIT = timedelta(seconds=10)


class Peer:
    """A client of one relay with a key; it authenticates where the relay asks for it."""

    def __init__(self, client: sdk.Client, keys: sdk.Keys) -> None:
        self.client = client
        self.keys = keys

    @property
    def public(self) -> str:
        return self.keys.public_key().to_hex()

    async def send(self, kind: int, content: str, tags: list[list[str]]) -> sdk.Event:
        builder = sdk.EventBuilder(sdk.Kind(kind), content).tags([sdk.Tag.parse(tag) for tag in tags])
        event = builder.finalize(self.keys)
        sent = await self.client.send_event(event, ok_timeout=WAIT, authentication_timeout=WAIT)
        assert sent.success, sent.failed
        return event

    async def heard(self, *kinds: int, about: Callable[[sdk.Event], bool] = lambda _: True) -> sdk.Event:
        """The first event of these kinds that names us, as the relay has stored it."""
        wanted = sdk.Filter().kinds([sdk.Kind(kind) for kind in kinds]).pubkey(self.keys.public_key())
        async with asyncio.timeout(20):
            while True:
                for event in await self.client.fetch_events(sdk.ReqTarget.auto([wanted]), WAIT):
                    if about(event):
                        return event
                await asyncio.sleep(0.1)

    def seal(self, peer: str, payload: object) -> str:
        key, other = self.keys.secret_key(), sdk.PublicKey.parse(peer)
        return sdk.nip44_encrypt(key, other, orjson.dumps(payload).decode(), sdk.Nip44Version.V2)

    def open(self, event: sdk.Event) -> dict:
        return orjson.loads(sdk.nip44_decrypt(self.keys.secret_key(), event.author(), event.content()))


@asynccontextmanager
async def peer(url: str) -> AsyncIterator[Peer]:
    # Its authenticator is called from a thread of its own, which has no loop.
    sdk.uniffi_set_event_loop(asyncio.get_running_loop())
    keys = sdk.Keys.generate()
    client = sdk.ClientBuilder().authenticator(sdk.SignerAuthenticator(keys)).build()
    await client.add_relay(sdk.RelayUrl.parse(url))
    await client.connect(WAIT)
    try:
        yield Peer(client, keys)
    finally:
        await client.shutdown()


def tags_of(event: sdk.Event) -> dict[str, list[str]]:
    return {tag.to_vec()[0]: tag.to_vec()[1:] for tag in event.tags()}
