"""Whoever closes a client may be cancelled meanwhile: nothing of it goes on."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pylon.nostr.keys import SecretKey
from pylon.swarm.client import SwarmClient
from tests.swarm.fakes import FakeRelays
from tests.waiting import until

PARTS = ("outbox", "upkeep", "settling", "rescoring")


def closes(closed: list[str], name: str, *, waits: bool) -> Callable[..., Awaitable[None]]:
    async def close(**_: Any) -> None:
        closed.append(name)
        if waits:
            await asyncio.Event().wait()

    return close


@pytest.mark.parametrize("at", PARTS[:-1])
async def test_a_close_that_is_cancelled_half_way_closes_the_rest(at, monkeypatch):
    client = SwarmClient(FakeRelays(), SecretKey.generate())
    closed = list[str]()
    part = {name: SimpleNamespace(close=closes(closed, name, waits=name == at)) for name in PARTS}
    monkeypatch.setattr(client._parts, "outbox", part["outbox"])
    monkeypatch.setattr(client, "_upkeep", part["upkeep"])
    monkeypatch.setattr(client._parts.answers, "_settling", part["settling"])
    monkeypatch.setattr(client._parts.answers, "rescoring", part["rescoring"])
    closing = asyncio.create_task(client.close())
    await until(lambda: at in closed)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    # Nothing more is heard when what was heard is booked.
    assert tuple(closed) == PARTS


async def test_a_close_that_is_cancelled_while_a_publication_waits_for_its_relay_leaves_no_task():
    before = asyncio.all_tasks()
    relays = FakeRelays()
    client = SwarmClient(relays, SecretKey.generate())
    await client.start()
    begun = asyncio.Event()

    async def publication() -> None:
        begun.set()
        await asyncio.Event().wait()

    client._parts.outbox.put(publication)
    await begun.wait()
    closing = asyncio.create_task(client.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert asyncio.all_tasks() == before
    assert relays.subscriptions and all(one.closed for one in relays.subscriptions)
