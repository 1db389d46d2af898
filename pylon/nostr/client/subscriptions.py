"""The subscriptions and queries of one connection: repeated after each reconnection, queries page by page.

Source: NIP-01 "From client to relay: sending events and creating subscriptions", NIP-42 (`auth-required:`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pylon import log
from pylon.errors import MalformedError, RelayError, WireError
from pylon.nostr import messages as m
from pylon.nostr.client.log_limit import LogLimit
from pylon.nostr.client.nip11 import RelayInformation
from pylon.nostr.client.pages import Pages
from pylon.nostr.client.stored import MemoryBudget, StoredAnswer
from pylon.nostr.client.tolerance import tolerance
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter

logger = log.get("nostr")

# How long to wait before asking again after the relay closed a subscription; the last one repeats.
RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)

type Filters = Callable[[], tuple[Filter, ...]]
# Takes an event, or the end of stored ones. Without room it returns something to wait for, and nothing is read from
# the relay until that is done. Raises `WireError` for an event that is forged or was not asked for.
type Deliver = Callable[[Event | m.Eose], Awaitable[None] | None]


@dataclass(slots=True)
class _Subscription:
    filters: Filters
    deliver: Deliver
    # The filters that were sent last.
    asked: tuple[Filter, ...] = ()
    # Set for queries, which end with the stored events. They wait for authentication, since a relay may leave out
    # events that only their parties may see.
    ended: asyncio.Future[None] | None = None
    refusals: int = 0
    refusal: str = ""
    waits_for_auth: bool = False
    retry: asyncio.TimerHandle | None = field(default=None, repr=False)

    def stop_retrying(self) -> None:
        if self.retry is not None:
            self.retry.cancel()


class Subscriptions:
    """The subscriptions and queries that are open at one relay.

    `send` takes a frame without waiting, and drops it while there is no connection. `information` gives the relay's
    limits (NIP-11). `has_key`: whether there is a key to authenticate with, if the relay asks (NIP-42).
    """

    def __init__(
        self, url: str, send: Callable[[bytes], object], information: Callable[[], RelayInformation], *, has_key: bool
    ) -> None:
        self._url = url
        self._send = send
        self._information = information
        self._has_key = has_key
        self._open: dict[str, _Subscription] = {}
        self._names = 0
        self._queries = 0
        self._query_ended = asyncio.Event()
        self._query_memory = MemoryBudget()
        self._tolerance, self._warned = tolerance(), False
        # The reason of the last closed subscription that was logged as a warning, and the limit of such warnings.
        self._told, self._refusals = "", LogLimit()

    def subscribe(
        self, filters: Filters, deliver: Deliver, *, name: str = "", ended: asyncio.Future[None] | None = None
    ) -> str:
        """See `RelayConnection.subscribe`."""
        self._names += 1
        name = f"{name or 'q'}{self._names}"
        self._open[name] = _Subscription(filters, deliver, ended=ended)
        self._request(name)
        return name

    def unsubscribe(self, name: str) -> None:
        """End a subscription. Unknown ids are ignored."""
        subscription = self._open.pop(name, None)
        if subscription is None:
            return
        subscription.stop_retrying()
        self._send(m.encode(m.Close(name)))

    async def query(self, filters: tuple[Filter, ...], known: dict[str, Event]) -> list[Event]:
        """See `RelayConnection.query`."""
        answer = StoredAnswer(self._query_memory, known)
        try:
            if len(filters) == 1:
                await self._pages(filters[0], answer)
            elif await self._page(filters, answer):
                # Nothing tells which filter's events were cut, nor where: each filter is asked for by itself.
                for wanted in filters:
                    if not answer.cut:
                        await self._pages(wanted, answer)
        finally:
            answer.let_go()
        if answer.cut:
            logger.warning(
                "a relay's answer to a query was too large to keep", relay=self._url, kept=len(answer.events)
            )
        return list(answer.events.values())

    # --- what the relay says ----------------------------------------------------------------------------------

    def opened(self) -> None:
        """The connection is new: ask for all subscriptions again, and for queries when authentication is over."""
        self._tolerance, self._warned = tolerance(), False
        for name, subscription in list(self._open.items()):
            if subscription.ended is not None:
                subscription.waits_for_auth = True
            else:
                self._request(name)

    def authenticated(self) -> None:
        """Authentication is over, one way or the other: ask again for everything that waited for it."""
        for name, subscription in list(self._open.items()):
            if subscription.waits_for_auth:
                subscription.waits_for_auth = False
                self._request(name)

    def receive(self, name: str, item: Event | m.Eose) -> Awaitable[None] | None:
        """Deliver an event, or the end of stored ones; returns what to wait for when the reader is behind.

        Raises `RelayError` for a relay that sends too many events that are forged or were not asked for.
        """
        subscription = self._open.get(name)
        if subscription is None:
            return None
        if type(item) is m.Eose:
            subscription.refusals = 0
        try:
            if type(item) is Event and subscription.ended is None:
                _check_asked(item, subscription.asked)
            return subscription.deliver(item)
        except WireError as error:
            self._count_wrong(error)
            return None

    @property
    def refusal(self) -> str:
        """The relay's reason, if it has closed all subscriptions and answered none since; empty otherwise."""
        reasons = [subscription.refusal for subscription in self._open.values() if subscription.refusals]
        return reasons[-1] if reasons and len(reasons) == len(self._open) else ""

    @property
    def shut_out(self) -> bool:
        """Whether all subscriptions wait for authentication."""
        return bool(self._open) and all(subscription.waits_for_auth for subscription in self._open.values())

    def refused(self, name: str, reason: str) -> None:
        """The relay closed a subscription: ask for it again, after a longer wait each time."""
        subscription = self._open.get(name)
        if subscription is None:
            return
        if reason.startswith("auth-required") and self._has_key:
            subscription.waits_for_auth = True
            return
        delay = RETRY_SECONDS[min(subscription.refusals, len(RETRY_SECONDS) - 1)]
        subscription.refusals += 1
        subscription.refusal = reason
        self._log_refusal(reason, delay)
        # Refusals that come during one wait lead to one request.
        subscription.stop_retrying()
        subscription.retry = asyncio.get_running_loop().call_later(delay, self._request, name)

    def _log_refusal(self, reason: str, delay: float) -> None:
        if reason == self._told:
            # The same reason again, or for another subscription, is no news.
            logger.debug("relay closed a subscription", relay=self._url, reason=reason, retry_s=delay)
        elif (beside := self._refusals.admit(asyncio.get_running_loop().time())) is not None:
            self._told = reason
            logger.warning("relay closed a subscription", relay=self._url, reason=reason, retry_s=delay, **beside)

    def close(self) -> None:
        """Stop asking again for closed subscriptions."""
        for subscription in self._open.values():
            subscription.stop_retrying()

    # --- inside -----------------------------------------------------------------------------------------------

    def _request(self, name: str) -> None:
        subscription = self._open.get(name)
        if subscription is not None:
            subscription.asked = self._information().lowered(subscription.filters())
            self._send(m.encode(m.Req(name, subscription.asked)))

    def _count_wrong(self, error: WireError) -> None:
        # Only the first on a connection is a warning: the others tell nothing new.
        told = logger.debug if self._warned else logger.warning
        self._warned = True
        told("relay passed on a forged event, or one that was not asked for", relay=self._url, error=str(error))
        if self._tolerance.take(asyncio.get_running_loop().time()):
            return
        flood = RelayError(f"{self._url} sends events that are forged or were not asked for: {error}")
        for subscription in self._open.values():
            # Queries fail at once: the caller can use the answers of other relays.
            if subscription.ended is not None and not subscription.ended.done():
                subscription.ended.set_exception(flood)
        raise flood

    async def _pages(self, wanted: Filter, answer: StoredAnswer) -> None:
        """Ask for one filter's events page by page, from the newest to the oldest."""
        pages = Pages(wanted)
        while not answer.cut and (asked := pages.next()) is not None:
            full = await self._page((asked,), answer)
            pages.came(answer.page.values(), full=full)
        if pages.crowded:
            logger.warning(
                "a relay has more events in one second than its limit lets us read",
                relay=self._url,
                seconds=pages.crowded[:10],
            )

    async def _page(self, filters: tuple[Filter, ...], answer: StoredAnswer) -> bool:
        """Ask for one page; whether there may be more, since a relay silently leaves out what is over its limit."""
        # Queries share the subscriptions that the relay allows besides the lasting ones.
        most = self._information().max_subscriptions
        while self._queries and most is not None and len(self._open) >= most:
            self._query_ended.clear()
            await self._query_ended.wait()
        self._queries += 1
        answer.begin_page(filters)
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def take(item: Event | m.Eose) -> None:
            # Events that come after the end, in the same turn of the event loop, are ignored.
            if not ended.done() and (isinstance(item, m.Eose) or not answer.take(item)):
                ended.set_result(None)

        name = self.subscribe(lambda: filters, take, ended=ended)
        try:
            await ended
        finally:
            self.unsubscribe(name)
            self._queries -= 1
            self._query_ended.set()
        # Read again: the relay's limits may have come meanwhile.
        bounds = [most for f in filters if (most := self._information().most_for(f)) is not None]
        return bool(bounds) and len(answer.page) >= min(bounds) and not answer.cut


def _check_asked(event: Event, filters: tuple[Filter, ...]) -> None:
    """Raises `MalformedError` for an event that no filter asks for: to verify its signature would cost fifty times as
    much. Times are left aside: they bound what a relay looks up, and no reader relies on them.
    """
    if not any(f.matches_at_any_time(event) for f in filters):
        raise MalformedError("an event does not match what was asked for")
