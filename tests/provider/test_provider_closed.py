"""Whoever closes a provider may be cancelled meanwhile: none of its parts goes on."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from pylon.clock import SystemClock
from pylon.inference.engine import EngineSpec
from pylon.inference.service import InferenceService
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.provider.service import Provider
from pylon.provider.settings import ProviderSettings

PARTS = ("housekeeping", "open_cancels", "intake", "disk", "runner", "presence", "outbox")


@pytest.mark.parametrize("at", PARTS[:-1])
async def test_a_close_that_is_cancelled_half_way_closes_the_rest(at):
    secret = SecretKey.generate()
    journal: Any = SimpleNamespace()
    provider = Provider(
        secret=secret,
        keys=ConversationKeys(secret),
        pool=RelayPool(["ws://127.0.0.1:9"]),
        inference=InferenceService(EngineSpec("instant", "stand-in-instant", slots=1), SystemClock()),
        journal=journal,
        settings=ProviderSettings(),
        model="stand-in-instant",
    )
    closed = list[str]()

    def part(name: str) -> SimpleNamespace:
        async def close() -> None:
            closed.append(name)
            if name == at:
                await asyncio.Event().wait()

        return SimpleNamespace(close=close)

    for name in PARTS:
        setattr(provider, f"_{name}", part(name))
    closing = asyncio.create_task(provider.close())
    while at not in closed:
        await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert tuple(closed) == PARTS
