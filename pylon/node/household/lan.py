"""Finding the household's relay in the local network: the head announces it by multicast DNS, and members ask.

A machine's address may change when the router restarts, and an invite may have been made in another network. So the
relay is announced as a DNS-SD service (RFC 6762, RFC 6763). Only those who know the head's key recognize its name.
Whoever answers with a wrong address gains nothing: what the head sends is signed and encrypted with its key.
"""

import hashlib
import ipaddress
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from pylon import log
from pylon.errors import UnreachableError
from pylon.node.household.address import own_address
from pylon.node.household.members import Household
from pylon.nostr.pool import RelayPool
from pylon.relay_url import is_loopback
from pylon.sections import Config

logger = log.get("household")

SERVICE = "_pylon._tcp.local."
FIND_S = 4.0
# A relay in this network answers within a moment; if it does not, its address has probably changed.
KNOWN_S = 3.0
OPEN_S = 10.0


class RelayDiscovery(Protocol):
    """Finds and announces household relays in the local network."""

    async def find(self, head: str) -> str | None:
        """The address of the relay of the household with this head, `ws://…`, or None."""

    def announced(self, head: str, port: int) -> AbstractAsyncContextManager[None]:
        """While it is open, announces that the relay of this head's household listens here on `port`."""


@dataclass(frozen=True, slots=True)
class Mdns:
    """Discovery by multicast DNS. `interfaces` are addresses of this machine to use; if it is empty, all of them."""

    interfaces: tuple[str, ...] = ()

    async def find(self, head: str) -> str | None:
        """See `RelayDiscovery`."""
        # Imported here: only a machine in a household, or one that joins, needs it.
        from zeroconf import IPVersion
        from zeroconf.asyncio import AsyncServiceInfo

        wanted = AsyncServiceInfo(SERVICE, f"{instance_name(head)}.{SERVICE}")
        try:
            async with self._open() as opened:
                found = await wanted.async_request(opened.zeroconf, FIND_S * 1_000)
        except OSError as error:
            logger.info("the local network cannot be searched for the household's relay", error=str(error))
            return None
        addresses = wanted.parsed_addresses(IPVersion.V4Only) if found else []
        return next((f"ws://{one}:{wanted.port}" for one in addresses if wanted.port and _is_near(one)), None)

    @asynccontextmanager
    async def announced(self, head: str, port: int) -> AsyncIterator[None]:
        """See `RelayDiscovery`. On a machine without a network it announces nothing, and does not fail."""
        from zeroconf.asyncio import AsyncServiceInfo

        name = instance_name(head)
        here = [ipaddress.ip_address(one).packed for one in self.interfaces or (own_address(),)]
        info = AsyncServiceInfo(SERVICE, f"{name}.{SERVICE}", port=port, addresses=here, server=f"{name}.local.")
        try:
            opened = self._zeroconf()
        except OSError as error:
            logger.warning("the household's relay cannot be announced on the local network", error=str(error))
            yield
            return
        try:
            # A household has one head, so another holder of this name is this machine before its restart.
            await opened.async_register_service(info, cooperating_responders=True)
            yield
        finally:
            await opened.async_unregister_all_services()
            await opened.async_close()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Any]:
        opened = self._zeroconf()
        try:
            yield opened
        finally:
            await opened.async_close()

    def _zeroconf(self) -> Any:
        from zeroconf import InterfaceChoice, IPVersion
        from zeroconf.asyncio import AsyncZeroconf

        interfaces = list(self.interfaces) or InterfaceChoice.All
        return AsyncZeroconf(interfaces=interfaces, ip_version=IPVersion.V4Only)


def instance_name(head: str) -> str:
    """The DNS-SD instance name (RFC 6763, 4.1) of a head's relay: a hash, so that it does not show the head's key."""
    return "pylon-" + hashlib.sha256(b"pylon/household/" + bytes.fromhex(head)).hexdigest()[:24]


def relay_discovery(config: Config) -> RelayDiscovery | None:
    """The discovery that the settings ask for; None where they turn it off."""
    section = config.household
    return Mdns(tuple(section.lan_interfaces)) if section.lan else None


def announcing(config: Config, head: str, url: str) -> AbstractAsyncContextManager[None]:
    """Announces the head's relay at this address, unless the settings say no or nobody else could reach it."""
    parts, discovery = urlsplit(url), relay_discovery(config)
    hidden = is_loopback(parts.hostname or "") and not config.household.lan_interfaces
    if discovery is None or hidden or parts.port is None:
        return _nothing()
    return discovery.announced(head, parts.port)


async def reach(pool: RelayPool, household: Household, discovery: RelayDiscovery | None) -> None:
    """If none of the pool's relays can be reached, looks for the household's in the local network and adds it."""
    if discovery is None:
        return
    try:
        await pool.wait_open(KNOWN_S)
    except UnreachableError:
        found = await discovery.find(household.head)
        if found is not None and found not in pool.urls:
            logger.info("the household's relay was found on the local network", relay=found)
            await pool.add(found, timeout=OPEN_S)


def _is_near(address: str) -> bool:
    # Anybody in the network can answer: that must not make this machine connect to the internet.
    return not ipaddress.ip_address(address).is_global


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield
