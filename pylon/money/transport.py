"""What wallet traffic needs of relays. `nostr.pool.RelayPool` has this shape; tests have a smaller one."""

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.pool_subscription import Received


class Subscription(Protocol):
    """Verified events, each once, without end."""

    def __aiter__(self) -> AsyncIterator[Received]: ...

    async def close(self) -> None: ...


class Transport(Protocol):
    """Relays, as one."""

    async def publish(self, event: Event) -> object:
        """Returns when a relay has taken it. Raises `PylonError`."""

    def subscribe(self, filters: Callable[[], tuple[Filter, ...]], *, name: str = "") -> Subscription:
        """`filters` is asked anew at each (re)connection."""

    async def query(self, filters: tuple[Filter, ...], *, timeout: float = 10.0) -> list[Event]:
        """Stored events, verified. Raises `PylonError` when no relay answers within `timeout` seconds."""
