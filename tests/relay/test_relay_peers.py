"""Clients that others wrote use this relay: nostr-sdk over the wire, pynostr's events."""

import asyncio
import sys
import time
from datetime import timedelta

import nostr_sdk as sdk
import pytest
from pynostr.event import Event as PynostrEvent
from pynostr.key import PrivateKey
from relay_peer import BOB, note, peer

from pylon.nostr.client.connection import RelayConnection
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.relay.server import RelayServer

WAIT = timedelta(seconds=10)


async def connected(relay, keys=None):
    # Its authenticator is called from a thread of its own, which has no loop.
    sdk.uniffi_set_event_loop(asyncio.get_running_loop())
    builder = sdk.ClientBuilder()
    if keys is not None:
        builder = builder.authenticator(sdk.SignerAuthenticator(keys))
    client = builder.build()
    url = sdk.RelayUrl.parse(relay.url)
    await client.add_relay(url)
    await client.connect(WAIT)
    return client, url


async def test_nostr_sdk_publishes_and_reads(tmp_path):
    async with RelayServer(tmp_path / "relay.db") as relay:
        client, url = await connected(relay)
        keys = sdk.Keys.generate()
        events = [sdk.EventBuilder(sdk.Kind(1), f"note {n}").finalize(keys) for n in range(20)]
        for event in events:
            sent = await client.send_event(event, ok_timeout=WAIT)
            assert list(sent.success) == [url], sent.failed
        wanted = sdk.Filter().author(keys.public_key())
        found = await client.fetch_events(sdk.ReqTarget.auto([wanted]), WAIT)
        assert {event.id().to_hex() for event in found} == {event.id().to_hex() for event in events}
        await client.shutdown()


async def test_nostr_sdk_hears_live_events():
    async with RelayServer() as relay, peer(relay) as writer:
        client, _ = await connected(relay)
        stream = client.notifications()
        await client.subscribe(sdk.ReqTarget.auto([sdk.Filter().kind(sdk.Kind(7))]))
        event = note(kind=7, content="live")
        while not (await writer.count({"kinds": [7]}))[2]["count"]:
            await writer.publish(event)
        async with asyncio.timeout(10):
            while True:
                heard = await stream.next()
                if heard.is_new_event():
                    break
        assert heard.event.content() == "live"
        await client.shutdown()


async def test_nostr_sdk_authenticates_where_the_relay_requires_it():
    async with RelayServer(require_auth=True) as relay:
        keys = sdk.Keys.generate()
        client, url = await connected(relay, keys)
        event = sdk.EventBuilder(sdk.Kind(1), "behind the door").finalize(keys)
        sent = await client.send_event(event, ok_timeout=WAIT, authentication_timeout=WAIT)
        assert list(sent.success) == [url], sent.failed
        found = await client.fetch_events(sdk.ReqTarget.auto([sdk.Filter().id(event.id())]), WAIT)
        assert [e.id().to_hex() for e in found] == [event.id().to_hex()]
        await client.shutdown()


async def test_nostr_sdk_reads_its_encrypted_jobs_and_not_those_of_others():
    keys = sdk.Keys.generate()
    mine = note(kind=5940, tags=[("p", keys.public_key().to_hex()), ("encrypted",)])
    other = note(kind=5940, tags=[("p", BOB.public), ("encrypted",)])
    async with RelayServer() as relay, peer(relay) as writer:
        await writer.publish(mine)
        await writer.publish(other)
        client, _ = await connected(relay, keys)
        wanted = sdk.ReqTarget.auto([sdk.Filter().kind(sdk.Kind(5940))])
        async with asyncio.timeout(10):
            # Its authentication runs beside its requests.
            while not (found := await client.fetch_events(wanted, WAIT)):
                pass
        assert [event.id().to_hex() for event in found] == [mine.id]
        await client.shutdown()


async def test_nostr_sdk_publishes_its_own_protected_event():
    async with RelayServer() as relay:
        keys = sdk.Keys.generate()
        client, url = await connected(relay, keys)
        builder = sdk.EventBuilder(sdk.Kind(1), "mine").tags([sdk.Tag.parse(["-"])])
        sent = await client.send_event(builder.finalize(keys), ok_timeout=WAIT, authentication_timeout=WAIT)
        assert list(sent.success) == [url], sent.failed
        await client.shutdown()


@pytest.mark.skipif(sys.platform == "darwin", reason="pynostr's key module makes a callback that macOS may refuse")
async def test_events_of_pynostr_are_taken():
    key = PrivateKey()
    event = PynostrEvent('ünï "q" \n', kind=1, tags=[["t", "ä"]], created_at=int(time.time()))
    event.sign(key.hex())
    async with RelayServer() as relay, peer(relay) as client:
        await client.say("EVENT", event.to_dict())
        assert await client.hear() == ["OK", event.id, True, ""]
        assert await client.fetch({"authors": [key.public_key.hex()]}) == [event.id]


async def test_our_own_connection_is_shown_its_encrypted_jobs_live_and_stored():
    jobs = [note(kind=5940, content=str(n), tags=[("p", BOB.public), ("encrypted",)]) for n in range(2)]
    async with RelayServer() as relay, peer(relay) as writer:
        await writer.publish(jobs[0])
        connection = RelayConnection(relay.url, secret=BOB)
        connection.start()
        assert await connection.wait_open(10)
        wanted = Filter(kinds=frozenset({5940}), tags={"p": frozenset({BOB.public})})
        queue = asyncio.Queue()
        connection.subscribe(lambda: (wanted,), queue.put)
        seen = set()
        async with asyncio.timeout(10):
            for number, job in enumerate(jobs):
                if number:
                    await writer.publish(job)
                while len(seen) <= number:
                    item = await queue.get()
                    if isinstance(item, Event):
                        seen.add(item.id)
        assert seen == {job.id for job in jobs}
        await connection.close()
