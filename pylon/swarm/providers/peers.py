"""Providers by the weights that they run, so that peers to compare an answer with are drawn in constant time."""

import random
from collections.abc import Collection

from pylon.swarm.providers.listing import Listing

# The key of the pool that holds all providers.
ANY = ""


class _Pool:
    """A set of keys from which a few can be drawn at random."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self._place: dict[str, int] = {}

    def add(self, key: str) -> None:
        if key not in self._place:
            self._place[key] = len(self.keys)
            self.keys.append(key)

    def remove(self, key: str) -> None:
        place = self._place.pop(key, None)
        if place is None:
            return
        last = self.keys.pop()
        if last != key:
            self.keys[place] = last
            self._place[last] = place


class Peers:
    """See the module."""

    def __init__(self) -> None:
        self._pools: dict[str, _Pool] = {ANY: _Pool()}
        self._known: dict[str, Listing] = {}

    def __contains__(self, provider: str) -> bool:
        return provider in self._known

    def put(self, listing: Listing) -> None:
        """Adds a provider, or updates what it runs."""
        known = self._known.get(listing.provider)
        runs, before = _runs(listing), frozenset() if known is None else _runs(known)
        for weights in before - runs:
            self._leave(listing.provider, weights)
        for weights in runs - before:
            self._pools.setdefault(weights, _Pool()).add(listing.provider)
        self._known[listing.provider] = listing

    def remove(self, provider: str) -> None:
        """Removes a provider, if it is here."""
        known = self._known.pop(provider, None)
        for weights in () if known is None else _runs(known):
            self._leave(provider, weights)

    def weights(self, provider: str, model: str | None) -> str:
        """The hash of the weights that a provider runs as this model; empty when it names none."""
        known = self._known.get(provider)
        found = None if known is None else known.model(model)
        return "" if found is None else found.sha256

    def draw(self, rng: random.Random, weights: str, count: int, without: Collection[str]) -> list[str]:
        """Up to `count` different providers with these weights."""
        pool = self._pools.get(weights)
        if pool is None:
            return []
        most = min(len(pool.keys), count + len(without))
        return [key for key in rng.sample(pool.keys, most) if key not in without][:count]

    def _leave(self, provider: str, weights: str) -> None:
        pool = self._pools[weights]
        pool.remove(provider)
        if not pool.keys and weights != ANY:
            del self._pools[weights]


def _runs(listing: Listing) -> frozenset[str]:
    if listing.barred:
        return frozenset()
    return frozenset(model.sha256 for model in listing.models if model.sha256) | {ANY}
