"""Providers that read none of our relays: where their NIP-65 lists say that they are reached, as far as we go there.

A provider is heard of wherever its events were carried, but it reads requests at its own relays. Those that it
names in its list (kind 10002, `read`), or else in its announcement, are connected to while somebody is reached there,
a bounded number of them. Whoever writes a list can write any address into it, so few are followed (`may_follow`).
"""

import asyncio
import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from urllib.parse import urlsplit

from pylon import log
from pylon.errors import MalformedError, UnreachableError
from pylon.forever import forever
from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.nostr.nip65 import RELAY_LIST_KIND, parse_relay_list
from pylon.nostr.pool import RelayPool
from pylon.nostr.websocket.dialing import Dial, Resolve, dial_judged, resolve
from pylon.relay_url import normalize_relay_url, shared_relays
from pylon.swarm.providers.listing import Listing
from pylon.swarm.providers.presence import CHUNK

logger = log.get("swarm")

QUERY_S = 5.0
OPEN_S = 5.0
# Providers come in bunches: one query and one choice of relays for all of them.
GATHER_S = 0.1
REMEMBERED = 10_000


def may_follow(url: str, own: Iterable[str]) -> bool:
    """Whether this address (normalized) may be connected to because a stranger names it. `own` are our relays.

    TLS and a public name or address: a stranger must not make us knock at machines of our own network. The host
    of a relay of ours is known already, so it is followed whatever it is, but without a path or query of theirs.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in {urlsplit(ours).hostname for ours in own}:
        return not parts.path and not parts.query
    if parts.scheme != "wss":
        return False
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith((".local", ".localhost", ".internal", ".home.arpa"))


def _is_public(address: str) -> bool:
    return ipaddress.ip_address(address).is_global


class Reach:
    """`pool` is the customer's own (`RelayPool.extended`); at most `most` relays are added to it.

    `reached` is called with a provider that `holds` made wait, when everything was done that can be.
    """

    def __init__(self, pool: RelayPool, *, most: int, resolve: Resolve = resolve) -> None:
        self.reached: Callable[[str], None] = lambda _: None
        self._pool = pool
        self._own = tuple(pool.urls)
        self._most = most
        self._resolve = resolve
        # Those added by us, and who is reached there.
        self._added: dict[str, set[str]] = {}
        self._lost: dict[str, Listing] = {}
        # Those of them that were elsewhere when they had been looked for.
        self._moved: set[str] = set()
        self._known: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._wake = asyncio.Event()

    def holds(self, listing: Listing) -> bool:
        """Whether jobs for this provider have to wait until it is known where it reads them."""
        provider = listing.provider
        if not self._most or provider in self._known or shared_relays(listing.relays, self._own):
            return False
        if provider not in self._lost and len(self._lost) >= REMEMBERED:
            return False
        self._lost[provider] = listing
        self._wake.set()
        # One that does not say where it reads may well read ours.
        return bool(listing.relays)

    def relays_of(self, listing: Listing) -> list[str]:
        """The relays of the pool at which a provider that shares none of ours is reached; may be none."""
        return shared_relays(self._known.get(listing.provider, ()), self._pool.urls)

    def gone(self, provider: str) -> None:
        """The provider is not alive any more; relays that nobody else is reached at are let go."""
        self._lost.pop(provider, None)
        self._moved.discard(provider)
        self._known.pop(provider, None)
        for users in self._added.values():
            users.discard(provider)
        if not all(self._added.values()):
            self._wake.set()

    async def run(self) -> None:
        """Follows lists until cancelled."""
        await forever(self._turn, "reach")

    async def _turn(self) -> None:
        # After an error some are still to be found.
        if not self._lost:
            await self._wake.wait()
        await asyncio.sleep(GATHER_S)
        self._wake.clear()
        await self._let_go()
        while self._lost:
            await self._follow(list(self._lost.values())[:CHUNK])

    async def _follow(self, lost: list[Listing]) -> None:
        lists = await self._read_lists(frozenset(listing.provider for listing in lost))
        named = {
            listing.provider: self._followable(lists.get(listing.provider) or listing.relays) for listing in lost
        }
        # The relays at which most are reached come first.
        votes = Counter(url for urls in named.values() for url in urls)
        wanted = [url for url, _ in votes.most_common() if url not in self._pool.urls]
        await asyncio.gather(*map(self._open, wanted[: self._most - len(self._added)]))
        for listing in lost:
            provider = listing.provider
            # Gone meanwhile, or to be reached elsewhere: then it is looked at once more, after the others. Each
            # heartbeat is a new listing.
            if (now := self._lost.pop(provider, None)) is None:
                continue
            if now.relays != listing.relays and provider not in self._moved:
                self._moved.add(provider)
                self._lost[provider] = now
                continue
            self._moved.discard(provider)
            self._settle(provider, named[provider])
        await self._let_go()

    async def _let_go(self) -> None:
        for url in [url for url, users in self._added.items() if not users]:
            del self._added[url]
            await self._pool.remove(url)

    def _settle(self, provider: str, urls: tuple[str, ...]) -> None:
        self._known[provider] = urls
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        for url in urls:
            if url in self._added:
                self._added[url].add(provider)
        self.reached(provider)

    async def _read_lists(self, providers: frozenset[str]) -> dict[str, tuple[str, ...]]:
        newest: dict[str, Event] = {}
        with suppress(UnreachableError):
            sought = Filter(kinds=frozenset({RELAY_LIST_KIND}), authors=providers)
            for event in await self._pool.query((sought,), timeout=QUERY_S):
                old = newest.get(event.pubkey)
                if event.pubkey in providers and (old is None or event.created_at > old.created_at):
                    newest[event.pubkey] = event
        return {provider: parse_relay_list(event).read for provider, event in newest.items()}

    def _followable(self, urls: Iterable[str]) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for url in urls:
            with suppress(MalformedError):
                normal = normalize_relay_url(url)
                if may_follow(normal, self._own):
                    found[normal] = None
        return tuple(found)

    async def _open(self, url: str) -> None:
        host = urlsplit(url).hostname or ""
        dial: Dial | None = None
        if host not in {urlsplit(ours).hostname for ours in self._own}:
            try:
                addresses = list(await self._resolve(host))
            except OSError:
                addresses = []
            # A public name may stand for a private address.
            if not addresses or not all(map(_is_public, addresses)):
                logger.info("relay not followed", relay=url, addresses=len(addresses))
                return
            # And may stand for another one by now, or at a later connection.
            dial = partial(dial_judged, may_dial=_is_public, resolve=self._resolve)
        self._added[url] = set()
        if not await self._pool.add(url, timeout=OPEN_S, dial=dial):
            logger.info("relay of a provider does not answer", relay=url)
            del self._added[url]
            await self._pool.remove(url)
