"""The protocols that wallet traffic needs of relays. `nostr.pool.RelayPool` fits them; tests use a smaller one."""

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.pool_subscription import Received


class Subscription(Protocol):
    """Yields verified events, each once, without end."""

    def __aiter__(self) -> AsyncIterator[Received]: ...

    async def close(self) -> None: ...


class Transport(Protocol):
    """A set of relays, used as one."""

    async def publish(self, event: Event) -> object:
        """Returns when a relay has accepted the event. Raises `PylonError`."""

    def subscribe(self, filters: Callable[[], tuple[Filter, ...]], *, name: str = "") -> Subscription:
        """Subscribes to events; `filters` is called anew at each (re)connection."""

    async def query(self, filters: tuple[Filter, ...], *, timeout: float = 10.0) -> list[Event]:
        """Stored events, verified. Raises `PylonError` when no relay answers within `timeout` seconds."""
