"""A provider's announcement and heartbeat, without a relay."""

import asyncio

import pytest

from pylon import forever
from pylon.clock import SystemClock
from pylon.inference.service import EngineStatus
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.provider.presence import Presence
from pylon.provider.settings import ProviderSettings


class NotedPool(RelayPool):
    """A pool that notes kinds instead of sending events."""

    def __init__(self, state: str) -> None:
        super().__init__(["ws://127.0.0.1:9"])
        self.statuses[0].state = state
        self.kinds: list[int] = []

    async def publish(self, event, **_):
        self.kinds.append(event.kind)
        return self.urls


@pytest.mark.parametrize(("state", "kinds"), [("open", [11998, 5]), ("connecting", [])])
async def test_a_provider_that_goes_says_so_only_where_somebody_hears_it(state, kinds):
    pool = NotedPool(state)
    engine = EngineStatus("loading", None, 0, 1, 0, 0.0, 0.0)
    presence = Presence(
        SecretKey.generate(), pool, ProviderSettings(), SystemClock(), lambda: engine, lambda: (1, 0.0, "")
    )
    await presence.close()
    assert pool.kinds == kinds


class TrippingPool(NotedPool):
    """A pool over which the second event makes somebody stumble."""

    async def publish(self, event, **options):
        await super().publish(event, **options)
        if len(self.kinds) == 2:
            raise RuntimeError("a bug")
        return self.urls


async def test_a_provider_is_seen_again_after_an_error_of_its_own(monkeypatch):
    monkeypatch.setattr(forever, "REST_S", 0.01)
    pool = TrippingPool("open")
    engine = EngineStatus("loading", None, 0, 1, 0, 0.0, 0.0)
    presence = Presence(
        SecretKey.generate(), pool, ProviderSettings(), SystemClock(), lambda: engine, lambda: (1, 0.0, "")
    )
    presence.start()
    async with asyncio.timeout(10):
        while pool.kinds.count(11998) < 3:
            presence.changed()
            await asyncio.sleep(0.01)
    await presence.close()
