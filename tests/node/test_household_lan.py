"""The household's relay found in the network: multicast DNS over the loopback interface alone."""

import asyncio
import socket
import struct
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from pylon.clock import SystemClock
from pylon.errors import UnreachableError
from pylon.node.household import lan
from pylon.node.household.address import invited, local, reachable
from pylon.node.household.invite import decode
from pylon.node.household.inviting import Head, Joined, new_household
from pylon.node.household.joining import join
from pylon.node.household.lan import Mdns, announcing, instance_name, reach, relay_discovery
from pylon.node.household.members import AdmittedKeys, HouseholdFile
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.relay.server import RelayServer
from pylon.sections import Config, HouseholdSection

HEAD, MEMBER = (SecretKey(bytes([n]) * 32) for n in (5, 6))
LOOPBACK = Mdns(("127.0.0.1",))
# Nothing listens there: the address of another network, or of yesterday.
GONE = "ws://127.0.0.1:9"


def multicast_works() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        member = struct.pack("4s4s", socket.inet_aton("224.0.0.251"), socket.inet_aton("127.0.0.1"))
        try:
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        except OSError:
            return False
        return True


needs_multicast = pytest.mark.skipif(not multicast_works(), reason="loopback takes no multicast here")


@dataclass
class Told:
    """Stands for the network: it says what it was told, and remembers whom it was asked for."""

    url: str | None
    asked: list[str] = field(default_factory=list)

    async def find(self, head: str) -> str | None:
        self.asked.append(head)
        return self.url

    @asynccontextmanager
    async def announced(self, head: str, port: int):
        yield


@needs_multicast
async def test_what_is_announced_is_found_by_who_knows_the_head_and_by_nobody_else(monkeypatch):
    async with LOOPBACK.announced(HEAD.public, 7447):
        assert await LOOPBACK.find(HEAD.public) == "ws://127.0.0.1:7447"
        monkeypatch.setattr(lan, "FIND_S", 0.5)
        assert await LOOPBACK.find(MEMBER.public) is None
    assert await LOOPBACK.find(HEAD.public) is None


def test_the_name_in_the_network_does_not_tell_the_head_s_key():
    assert HEAD.public[:8] not in instance_name(HEAD.public) and len(instance_name(HEAD.public)) <= 63
    assert instance_name(HEAD.public) != instance_name(MEMBER.public)


def test_a_relay_on_all_addresses_is_at_loopback_for_its_own_machine():
    assert local("ws://0.0.0.0:7447") == "ws://127.0.0.1:7447"
    assert local("ws://[::]:7447") == "ws://[::1]:7447"
    for url in ("ws://192.168.1.5:7447", "ws://desk.local:7447", "wss://relay.example/path"):
        assert local(url) == url


def test_an_invite_names_loopback_only_where_the_relay_listens_there_alone():
    urls = ["ws://127.0.0.1:7447", "wss://relay.example"]
    assert invited(urls, "ws://127.0.0.1:7447") == tuple(urls)
    for hub in ("ws://0.0.0.0:7447", ""):
        assert invited(urls, hub) == (reachable(urls[0]), urls[1])


@pytest.mark.parametrize("address", ["93.184.216.34", "10.0.0.7", "127.0.0.1"])
def test_an_answer_leads_nowhere_outside_of_this_network(address):
    assert lan._is_near(address) is (address != "93.184.216.34")


async def test_a_relay_that_nobody_else_can_reach_is_not_announced_and_no_relay_where_the_settings_say_so():
    said = []

    class Near(Told):
        def announced(self, head, port):
            said.append(port)
            return super().announced(head, port)

    def config(**changes) -> Config:
        return Config(household=HouseholdSection(**changes))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lan, "relay_discovery", lambda c: Near(None) if c.household.lan else None)
        for made, url in (
            (config(), "ws://127.0.0.1:7001"),
            (config(lan=False), "ws://0.0.0.0:7002"),
            (config(), "ws://0.0.0.0:7003"),
            (config(lan_interfaces=["127.0.0.1"]), "ws://127.0.0.1:7004"),
        ):
            async with announcing(made, HEAD.public, url):
                pass
    assert said == [7003, 7004]
    assert relay_discovery(config(lan=False)) is None


@pytest.fixture
async def house(tmp_path):
    file = HouseholdFile(tmp_path)
    file.save(new_household(HEAD.public, (), "desk"))
    door = AdmittedKeys(file)
    async with RelayServer(allow_writers=door, allow_readers=door) as relay:
        pool = RelayPool([relay.url], secret=HEAD)
        pool.start()
        await pool.wait_open()
        yield Head(HEAD, ConversationKeys(HEAD), pool, file, SystemClock(), lambda: None), relay.url
        await pool.close()


async def test_an_invite_with_yesterdays_address_lets_a_machine_in_where_the_network_knows_better(house, monkeypatch):
    monkeypatch.setattr("pylon.node.household.joining.OPEN_S", 1.0)
    head, url = house
    near = Told(url)
    steps = head.invite(1, 60, (GONE,), "desk")
    code = decode(await anext(steps))
    with pytest.raises(UnreachableError):
        await join(code, MEMBER, "kitchen", SystemClock(), Told(None))
    waiting = asyncio.create_task(anext(steps))
    joined = await join(code, MEMBER, "kitchen", SystemClock(), near)
    assert await waiting == Joined(MEMBER.public, "kitchen") and MEMBER.public in joined.members
    assert near.asked == [HEAD.public]
    await steps.aclose()


@pytest.mark.parametrize("known", [True, False])
async def test_a_member_asks_the_network_only_when_the_relay_it_knows_is_gone(house, monkeypatch, known):
    monkeypatch.setattr(lan, "KNOWN_S", 1.0)
    _, url = house
    near = Told(url)
    pool = RelayPool([url if known else GONE], secret=HEAD)
    pool.start()
    await reach(pool, new_household(HEAD.public, (url,), "desk"), near)
    assert near.asked == ([] if known else [HEAD.public])
    assert urlsplit(url).port in {urlsplit(one).port for one in pool.urls}
    await pool.close()
