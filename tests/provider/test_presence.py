"""A provider's announcement and heartbeat, without a relay."""

import pytest

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
