"""Reaches providers that read none of our relays, at the relays that their NIP-65 lists name.

A provider is heard of wherever its events were carried, but it reads requests at its own relays: those in its list
(kind 10002, `read`), or else in its announcement. We connect to a bounded number of these, as long as a provider is
reached there. Strangers can put any address into a list, so only some are followed (`may_follow`).
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
# Seconds to gather providers that appear together: one query and one choice of relays serve them all.
GATHER_S = 0.1
REMEMBERED = 10_000


def may_follow(url: str, own: Iterable[str]) -> bool:
    """Whether this address (normalized) may be connected to because a stranger names it. `own` are our relays.

    It must use TLS and a public name or address: a stranger must not make us connect to machines of our own network.
    A host of our own relays is followed in any case, but without a path or query of the stranger's.
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

    `reached` is called with a provider that `holds` made wait, once all that can be done to reach it was done.
    """

    def __init__(self, pool: RelayPool, *, most: int, resolve: Resolve = resolve) -> None:
        self.reached: Callable[[str], None] = lambda _: None
        self._pool = pool
        self._own = tuple(pool.urls)
        self._most = most
        self._resolve = resolve
        # The relays that were added, and the providers that are reached at each.
        self._added: dict[str, set[str]] = {}
        # Providers that are still to be looked for.
        self._lost: dict[str, Listing] = {}
        # Those of them that named other relays by the time they had been looked for.
        self._moved: set[str] = set()
        self._known: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._wake = asyncio.Event()

    def holds(self, listing: Listing) -> bool:
        """Whether jobs for this provider have to wait until its relays are known."""
        provider = listing.provider
        if not self._most or provider in self._known or shared_relays(listing.relays, self._own):
            return False
        if provider not in self._lost and len(self._lost) >= REMEMBERED:
            return False
        self._lost[provider] = listing
        self._wake.set()
        # A provider that names no relays may well read ours.
        return bool(listing.relays)

    def relays_of(self, listing: Listing) -> list[str]:
        """The relays of the pool at which a provider is reached that shares none of ours; may be empty."""
        return shared_relays(self._known.get(listing.provider, ()), self._pool.urls)

    def gone(self, provider: str) -> None:
        """The provider is not alive any more. Relays at which no other is reached will be removed."""
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
            # None: it is gone. If its relays changed meanwhile, it is looked for once more, after the others.
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
            # A public name may resolve to a private address.
            if not addresses or not all(map(_is_public, addresses)):
                logger.info("relay not followed", relay=url, addresses=len(addresses))
                return
            # And to another one at a later connection, so each dialling is judged anew.
            dial = partial(dial_judged, may_dial=_is_public, resolve=self._resolve)
        self._added[url] = set()
        if not await self._pool.add(url, timeout=OPEN_S, dial=dial):
            logger.info("relay of a provider does not answer", relay=url)
            del self._added[url]
            await self._pool.remove(url)
