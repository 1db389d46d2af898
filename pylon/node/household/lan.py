"""Where the household's relay is in this network: the head says so by multicast DNS, members ask.

An address changes when a router starts anew, and an invite may have been made in another network. So the relay is
announced as a DNS-SD service (RFC 6762, RFC 6763), under a name that only who knows the head's key can tell from
others. Whoever answers with a wrong address gains nothing: what the head says is signed and sealed by its key.
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
# A relay of this network answers within a moment, or its address is not its address any more.
KNOWN_S = 3.0
OPEN_S = 10.0


class Neighbourhood(Protocol):
    """What can be asked of the network around this machine."""

    async def find(self, head: str) -> str | None:
        """The address of the relay of the household with this head, `ws://…`, or None."""

    def announced(self, head: str, port: int) -> AbstractAsyncContextManager[None]:
        """Says, as long as it is open, that the relay of this head's household is here."""


@dataclass(frozen=True, slots=True)
class Mdns:
    """The real one, by the `zeroconf` library. `interfaces` are addresses of this machine; none: all it has."""

    interfaces: tuple[str, ...] = ()

    async def find(self, head: str) -> str | None:
        """See `Neighbourhood`."""
        # Only who is in a household, or joins one, has use for it.
        from zeroconf import IPVersion
        from zeroconf.asyncio import AsyncServiceInfo

        wanted = AsyncServiceInfo(SERVICE, f"{mark(head)}.{SERVICE}")
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
        """See `Neighbourhood`. A machine without a network serves all the same."""
        from zeroconf.asyncio import AsyncServiceInfo

        name = mark(head)
        here = [ipaddress.ip_address(one).packed for one in self.interfaces or (own_address(),)]
        info = AsyncServiceInfo(SERVICE, f"{name}.{SERVICE}", port=port, addresses=here, server=f"{name}.local.")
        try:
            opened = self._made()
        except OSError as error:
            logger.warning("the household's relay cannot be announced on the local network", error=str(error))
            yield
            return
        try:
            # One household has one head: whoever else bears the name is this machine before it was started anew.
            await opened.async_register_service(info, cooperating_responders=True)
            yield
        finally:
            await opened.async_unregister_all_services()
            await opened.async_close()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Any]:
        opened = self._made()
        try:
            yield opened
        finally:
            await opened.async_close()

    def _made(self) -> Any:
        from zeroconf import InterfaceChoice, IPVersion
        from zeroconf.asyncio import AsyncZeroconf

        interfaces = list(self.interfaces) or InterfaceChoice.All
        return AsyncZeroconf(interfaces=interfaces, ip_version=IPVersion.V4Only)


def mark(head: str) -> str:
    """The name of a household in the network: it tells nobody the head's key."""
    return "pylon-" + hashlib.sha256(b"pylon/household/" + bytes.fromhex(head)).hexdigest()[:24]


def neighbourhood(config: Config) -> Neighbourhood | None:
    """The network as the settings have it; None when it is not to be asked."""
    section = config.household
    return Mdns(tuple(section.lan_interfaces)) if section.lan else None


def announcing(config: Config, head: str, url: str) -> AbstractAsyncContextManager[None]:
    """Announces the head's relay at this address, unless the settings say no or nobody else could reach it."""
    parts, near = urlsplit(url), neighbourhood(config)
    hidden = is_loopback(parts.hostname or "") and not config.household.lan_interfaces
    if near is None or hidden or parts.port is None:
        return _nothing()
    return near.announced(head, parts.port)


async def reach(pool: RelayPool, household: Household, near: Neighbourhood | None) -> None:
    """Adds the household's relay where the network has it, when none of the pool's can be reached."""
    if near is None:
        return
    try:
        await pool.wait_open(KNOWN_S)
    except UnreachableError:
        found = await near.find(household.head)
        if found is not None and found not in pool.urls:
            logger.info("the household's relay was found on the local network", relay=found)
            await pool.add(found, timeout=OPEN_S)


def _is_near(address: str) -> bool:
    # A stranger's answer must not send this machine out into the world.
    return not ipaddress.ip_address(address).is_global


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield
