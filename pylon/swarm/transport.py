"""What the customer needs of relays: implemented by `pylon.nostr.pool.RelayPool`, and by fakes in tests."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from pylon.nostr.client.connection import RelayStatus
from pylon.nostr.client.subscriptions import Filters
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.pool_subscription import Received


class Subscription(Protocol):
    """Verified events, each once. `caught_up` is set when the stored events have come."""

    caught_up: asyncio.Event

    async def next_batch(self, most: int) -> list[Received]:
        """At least one event, and any others that are there already, up to `most`."""

    async def close(self) -> None:
        """Ends it."""


class Transport(Protocol):
    """All relays of the customer, as one."""

    @property
    def urls(self) -> list[str]:
        """Their URLs."""

    @property
    def statuses(self) -> list[RelayStatus]:
        """The state of each relay."""

    @property
    def refusals(self) -> list[str]:
        """The reasons that relays give, if every relay refuses to answer us; otherwise empty."""

    def event_bytes(self, relays: Sequence[str] | None = None, *, most: int) -> int:
        """The largest event, up to `most` bytes, that one of these relays takes."""

    async def publish(
        self, event: Event, *, relays: Sequence[str] | None = None, timeout: float = 15.0, once: bool = False
    ) -> list[str]:
        """Returns when a relay has the event.

        Raises `RelayError`, which says whether a relay may have it all the same; of one relay `NotAcknowledgedError`
        when it is silent, and with `once` `ConnectionLostError` when it is not connected, or not any more, and
        `RateLimitedError` when it takes no more just now.
        """

    def subscribe(self, filters: Filters, *, name: str = "") -> Subscription:
        """Opens one subscription on all relays."""

    async def query(
        self, filters: tuple[Filter, ...], *, relays: Sequence[str] | None = None, timeout: float = 10.0
    ) -> list[Event]:
        """Stored events that match. Raises `UnreachableError`."""
