"""How many requests are in flight over each relay, so that none has more than its share at once."""

import random
from collections.abc import Sequence

from pylon.relay_url import relay_spelling


class RelayRoom:
    """`urls` are the customer's own relays. On each, at most `width` requests wait for an answer; those that no other
    relay takes may exceed it.
    """

    def __init__(self, urls: Sequence[str], width: int) -> None:
        self._urls = {relay_spelling(url): url for url in urls}
        self._width = width
        self._in_flight = dict.fromkeys(urls, 0)
        # Nothing goes over relays that are down, except that requests without another way go over those that are
        # gone, so that they fail and say why.
        self._down: frozenset[str] = frozenset()
        self._gone: frozenset[str] = frozenset()

    def lost(self, urls: frozenset[str], gone: frozenset[str]) -> None:
        """Sets which relays are down, and which of these are gone. If all are down, they are treated as if none
        were."""
        down = urls & self._in_flight.keys()
        self._down = down if len(down) < len(self._in_flight) else frozenset()
        self._gone = self._down & gone

    def shared(self, relays: Sequence[str]) -> tuple[str, ...]:
        """Those of a provider's relays that we use too, by our own spelling of their URLs."""
        mine = [self._urls.get(relay_spelling(url)) for url in relays]
        return tuple(dict.fromkeys([url for url in mine if url is not None]))

    def has(self, shared: Sequence[str]) -> bool:
        """Whether one of these relays has room for one more. With no shared relay a request goes to all,
        uncounted."""
        for url in self._open(shared):
            if self._in_flight[url] < self._width:
                return True
        return not shared

    def take(self, shared: Sequence[str]) -> str | None:
        """Picks the emptiest of these relays, and counts one more request on it."""
        if not shared:
            return None
        # A request that an earlier process sent went over any of them.
        url = min(self._open(shared) or shared, key=self._in_flight.__getitem__)
        self._in_flight[url] += 1
        return url

    def emptiest(self, urls: Sequence[str], rng: random.Random) -> str:
        """The one of these relays with the fewest requests in flight; a relay that is not ours counts as empty."""
        return min(urls, key=lambda url: (url in self._down, self._in_flight.get(url, 0), rng.random()))

    def _open(self, urls: Sequence[str]) -> Sequence[str]:
        if not self._down:
            return urls
        return [url for url in urls if url not in self._down] or [url for url in urls if url in self._gone]

    def move(self, url: str | None, to: str) -> str | None:
        """Moves one request from `url` to another relay; returns where it counts now, None if that is not ours."""
        self.free(url)
        if to not in self._in_flight:
            return None
        self._in_flight[to] += 1
        return to

    def free(self, url: str | None) -> None:
        """One request less on this relay."""
        if url is not None:
            self._in_flight[url] -= 1
