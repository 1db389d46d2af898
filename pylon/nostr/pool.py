"""Several relays as one: subscriptions and queries give every event once and verified; one relay's OK is enough.

Relays lose live events: common relay software silently drops those of a slow subscriber. A caller that waits for a
particular event therefore asks for it with `query` as well.
"""

import asyncio
import random
from collections.abc import Sequence
from copy import copy
from functools import partial

from pylon.clock import Clock
from pylon.errors import RelayError, UnreachableError
from pylon.nostr.client.backoff import Backoff
from pylon.nostr.client.connection import RelayConnection, RelayStatus
from pylon.nostr.client.subscriptions import Filters
from pylon.nostr.copies import Copies
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool_subscription import PoolSubscription
from pylon.nostr.websocket.dialing import Dial
from pylon.relay_url import relay_spelling
from pylon.tasks import Tasks, end


class RelayPool:
    """Connections to all relays of this node. `secret` authenticates to relays that ask (NIP-42).

    Addresses that normalize to the same one are one relay.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        secret: SecretKey | None = None,
        clock: Clock | None = None,
        backoff: Backoff | None = None,
        rng: random.Random | None = None,
    ) -> None:
        if not urls:
            raise UnreachableError("no relay is configured", hint='Add one: relays = ["ws://…"] in config.toml.')
        self._new = partial(RelayConnection, secret=secret, clock=clock, backoff=backoff, rng=rng)
        self._connections = {url: self._new(url) for url in dict.fromkeys(map(relay_spelling, urls))}
        # Connections of another pool, which starts and closes them.
        self._lent: frozenset[RelayConnection] = frozenset()
        self._subscriptions: list[tuple[PoolSubscription, Filters]] = []
        self._publishing = _publishing()

    def extended(self) -> "RelayPool":
        """A pool that shares these connections. Relays that are added to it are not added to this one."""
        pool = copy(self)
        pool._connections = dict(self._connections)
        pool._lent = frozenset(self._connections.values())
        pool._subscriptions, pool._publishing = [], _publishing()
        return pool

    async def add(self, url: str, *, timeout: float, dial: Dial | None = None) -> bool:
        """Connect to one more relay, subscriptions included; whether it was open within `timeout` seconds.

        `dial` makes each of its connections.
        """
        url = relay_spelling(url)
        if url in self._connections:
            return await self._connections[url].wait_open(timeout)
        connection = self._connections[url] = self._new(url, dial=dial)
        connection.start()
        self._subscriptions = [item for item in self._subscriptions if not item[0].closed]
        for subscription, filters in self._subscriptions:
            subscription.open_on(connection, filters)
        return await connection.wait_open(timeout)

    async def remove(self, url: str) -> None:
        """Disconnect from a relay that was added."""
        connection = self._connections.pop(relay_spelling(url))
        for subscription, _ in self._subscriptions:
            subscription.close_on(connection)
        await connection.close()

    @property
    def urls(self) -> list[str]:
        return list(self._connections)

    @property
    def statuses(self) -> list[RelayStatus]:
        return [connection.status for connection in self._connections.values()]

    @property
    def refusals(self) -> list[str]:
        """Why connected relays refuse our subscriptions, if all of them refuse every one; empty otherwise."""
        connected = [one for one in self._connections.values() if one.status.state == "open"]
        refusals = [f"{one.url} {one.refusal}" for one in connected if one.refusal]
        return refusals if len(refusals) == len(connected) else []

    def event_bytes(self, relays: Sequence[str] | None = None, *, most: int) -> int:
        """The largest event, in bytes and up to `most`, that at least one of these relays (all by default) takes.

        A relay that says nothing of its limits (NIP-11) takes `most`.
        """
        largest: int | None = None
        for url in self._connections if relays is None else relays:
            if (connection := self._named(url)) is None:
                continue
            bound = connection.status.information.event_bytes
            if bound is None or bound >= most:
                return most
            largest = bound if largest is None else max(largest, bound)
        return most if largest is None else largest

    def start(self) -> None:
        """Begin to connect to all relays."""
        for connection in self._connections.values():
            connection.start()

    async def close(self) -> None:
        """Disconnect from all relays."""
        await self._publishing.close()
        ours = [connection for connection in self._connections.values() if connection not in self._lent]
        await asyncio.gather(*(connection.close() for connection in ours))

    async def wait_open(self, timeout: float = 10.0) -> None:
        """Returns when one relay is connected. Raises `UnreachableError` after `timeout` seconds."""
        waits = [
            asyncio.create_task(c.wait_open(timeout), name=f"opening {c.url}") for c in self._connections.values()
        ]
        try:
            for wait in asyncio.as_completed(waits):
                if await wait:
                    return
        finally:
            await end(*waits)
        raise UnreachableError(
            "no relay can be reached: " + "; ".join(f"{s.url} ({s.error or 'connecting'})" for s in self.statuses),
            hint="Start one with `pylon relay`, or set others in config.toml.",
        )

    async def opened(self, timeout: float) -> list[str]:
        """The relays that are open when all are, or after `timeout` seconds."""
        await asyncio.gather(*(connection.wait_open(timeout) for connection in self._connections.values()))
        return [status.url for status in self.statuses if status.state == "open"]

    async def publish(
        self, event: Event, *, relays: Sequence[str] | None = None, timeout: float = 15.0, once: bool = False
    ) -> list[str]:
        """Send the event to the named relays (all by default); returns those that have said OK, at the first OK.

        The other relays are waited for in the background. When this is cancelled before an OK, none of them is sent
        the event any more.

        Raises `RelayError` when every relay refused the event or was silent for `timeout` seconds. Its
        `may_have_arrived` is set when one of them may have the event. For a single relay, raises what
        `RelayConnection.publish` raises.
        """
        connections = self._chosen(relays)
        if len(connections) == 1:
            # The usual case, kept cheap: the costly part of a publication is its tasks.
            await connections[0].publish(event, timeout=timeout, once=once)
            return [connections[0].url]
        start = self._publishing.start
        sends = {start(c.publish(event, timeout=timeout, once=once), "publication"): c.url for c in connections}
        errors: list[str] = []
        may_have_arrived = False
        pending = set(sends)
        while pending:
            try:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                # A relay that connects later would deliver an event that may no longer be expected.
                for task in pending:
                    task.cancel()
                raise
            accepted = [sends[task] for task in done if not task.cancelled() and task.exception() is None]
            if accepted:
                return accepted
            for task in done:
                # The task was cancelled by `close`, and this one was not.
                error = None if task.cancelled() else task.exception()
                errors.append(f"{sends[task]} was closed" if error is None else str(error))
                may_have_arrived |= not isinstance(error, RelayError) or error.may_have_arrived
        raise RelayError("no relay took the event: " + "; ".join(errors), may_have_arrived=may_have_arrived)

    def subscribe(self, filters: Filters, *, name: str = "", copies: Copies | None = None) -> PoolSubscription:
        """Subscribe on every relay. `filters` is called at each (re)connection; `copies` says which copies of known
        events are delivered as well.
        """
        subscription = PoolSubscription(name, copies)
        for connection in self._connections.values():
            subscription.open_on(connection, filters)
        self._subscriptions = [item for item in self._subscriptions if not item[0].closed]
        self._subscriptions.append((subscription, filters))
        return subscription

    async def query(
        self, filters: tuple[Filter, ...], *, relays: Sequence[str] | None = None, timeout: float = 10.0
    ) -> list[Event]:
        """Stored events of the named relays (all by default) that answer within `timeout` seconds.

        They are verified, each comes once, in no order. Raises `UnreachableError` when none answered.
        """
        connections = self._chosen(relays)
        known: dict[str, Event] = {}
        answers = await asyncio.gather(
            *(c.query(filters, timeout=timeout, known=known) for c in connections), return_exceptions=True
        )
        found: dict[str, Event] = {}
        failures: list[str] = []
        for answer in answers:
            if isinstance(answer, RelayError):
                failures.append(str(answer))
                continue
            if isinstance(answer, BaseException):
                raise answer
            found.update((event.id, event) for event in answer)
        if len(failures) == len(connections):
            raise UnreachableError("no relay answered: " + "; ".join(failures))
        return list(found.values())

    def _named(self, url: str) -> RelayConnection | None:
        # Nearly always it is one of `urls`.
        return self._connections.get(url) or self._connections.get(relay_spelling(url))

    def _chosen(self, relays: Sequence[str] | None) -> list[RelayConnection]:
        if relays is None:
            return list(self._connections.values())
        named = dict.fromkeys(map(self._named, relays))
        chosen = [connection for connection in named if connection is not None]
        if not chosen:
            raise RelayError("none of the named relays is one of ours")
        return chosen


def _publishing() -> Tasks:
    # A relay may refuse what another has taken: that is not an error of ours.
    return Tasks("a publication failed", expected=(RelayError,))
