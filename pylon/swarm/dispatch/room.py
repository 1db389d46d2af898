"""How much is in flight over each relay, so that none is given more than its share at once."""

import random
from collections.abc import Sequence

from pylon.relay_url import relay_spelling


class RelayRoom:
    """`urls` are the customer's own relays; at most `width` requests wait for their answer on each, but for such as
    no other relay takes.
    """

    def __init__(self, urls: Sequence[str], width: int) -> None:
        self._urls = {relay_spelling(url): url for url in urls}
        self._width = width
        self._in_flight = dict.fromkeys(urls, 0)
        # Over these nothing goes, but over those that are gone what has no other way, so that it fails and says why.
        self._down: frozenset[str] = frozenset()
        self._gone: frozenset[str] = frozenset()

    def lost(self, urls: frozenset[str], gone: frozenset[str]) -> None:
        """These are not to be used, and nobody waits for some of them. While that is so of all, they are alike."""
        down = urls & self._in_flight.keys()
        self._down = down if len(down) < len(self._in_flight) else frozenset()
        self._gone = self._down & gone

    def shared(self, relays: Sequence[str]) -> tuple[str, ...]:
        """Those of a provider's relays that we use too, as we write them."""
        mine = [self._urls.get(relay_spelling(url)) for url in relays]
        return tuple(dict.fromkeys([url for url in mine if url is not None]))

    def has(self, shared: Sequence[str]) -> bool:
        """Whether one more fits where we are connected. What shares no relay goes to all, and is not counted."""
        for url in self._open(shared):
            if self._in_flight[url] < self._width:
                return True
        return not shared

    def take(self, shared: Sequence[str]) -> str | None:
        """The emptiest of them, one more being on it now."""
        if not shared:
            return None
        # One that an earlier process sent went wherever it could then.
        url = min(self._open(shared) or shared, key=self._in_flight.__getitem__)
        self._in_flight[url] += 1
        return url

    def emptiest(self, urls: Sequence[str], rng: random.Random) -> str:
        """That of these with the least in flight; one of others than ours has nothing as far as we count."""
        return min(urls, key=lambda url: (url in self._down, self._in_flight.get(url, 0), rng.random()))

    def _open(self, urls: Sequence[str]) -> Sequence[str]:
        if not self._down:
            return urls
        return [url for url in urls if url not in self._down] or [url for url in urls if url in self._gone]

    def move(self, url: str | None, to: str) -> str | None:
        """What was to go over `url` goes over another relay: the one on which it counts now, if it is one of ours."""
        self.free(url)
        if to not in self._in_flight:
            return None
        self._in_flight[to] += 1
        return to

    def free(self, url: str | None) -> None:
        """One less."""
        if url is not None:
            self._in_flight[url] -= 1
