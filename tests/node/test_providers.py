"""The `providers` call of the control socket, and how the command shows what it tells."""

import asyncio
import itertools
import time
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import pytest

from pylon.cli import providers as cli_providers
from pylon.cli.providers import _columns
from pylon.errors import InterruptError, PylonError, UsageError
from pylon.jobs.codes import ErrorCode
from pylon.money.msat import Msat
from pylon.money.price import FREE, Price
from pylon.node import providers as node_providers
from pylon.node.calls.protocol import Result
from pylon.node.household.members import Household
from pylon.node.household.status import members
from pylon.node.providers import providers as list_providers
from pylon.node.providers import why_provider
from pylon.nostr.bech32 import nip19
from pylon.nostr.keys import SecretKey
from pylon.sections import CustomerSection
from pylon.swarm.client import SwarmClient
from pylon.swarm.providers.directory import MAX_PROVIDERS
from pylon.swarm.settings import SwarmSettings
from tests.gateway import fakes as gateway_fakes
from tests.rlm.test_swarm_sublm import FakeNode
from tests.swarm.fakes import FakeProvider, FakeRelays


class Relays(FakeRelays):
    async def wait_open(self, patience_s: float) -> None:
        """These always are."""


async def test_providers_are_told_with_the_largest_event_that_all_relays_take():
    class Pool:
        """A fake pool of two relays."""

        urls = ("ws://a", "ws://b")

        def event_bytes(self, relays, *, most):
            return {"ws://a": most, "ws://b": 20_000}[relays[0]]

    class Directory(list):
        known = 0

    async def caught_up(_):
        return True

    client = SimpleNamespace(directory=Directory(), caught_up=caught_up, settings=SimpleNamespace(bid=0))
    found = await list_providers(client, Pool(), CustomerSection(), {"wait_s": 0}, {})
    assert found["event_bytes"] == 20_000 and found["caught_up"] is True


async def test_others_are_served_while_thousands_of_providers_are_described(monkeypatch):
    class Directory(list):
        known = 2_000

    async def caught_up(_):
        return True

    async def others():
        while True:
            turns.append(len(described))
            await asyncio.sleep(0)

    turns, described = [], []
    monkeypatch.setattr(node_providers, "_shown", lambda *_: True)
    monkeypatch.setattr(node_providers, "_listing", lambda _, listing, __: described.append(listing) or {})
    client = SimpleNamespace(directory=Directory(range(2_000)), caught_up=caught_up, settings=SimpleNamespace(bid=0))
    relays = SimpleNamespace(urls=("ws://a",), event_bytes=lambda _, most: most)
    beside = asyncio.create_task(others())
    found = await list_providers(client, relays, CustomerSection(), {"wait_s": 0}, {})
    beside.cancel()
    assert len(found["providers"]) == 2_000
    assert max(after - before for before, after in itertools.pairwise([0, *turns, 2_000])) <= 200


async def test_with_a_limit_the_most_trusted_are_described_and_the_others_counted(monkeypatch):
    described = []
    monkeypatch.setattr(node_providers, "_listing", lambda _, one, __: described.append(one) or {"key": one.provider})
    monkeypatch.setattr(node_providers, "_shown", lambda *_: True)

    class Directory(list):
        known = 3_000

    async def caught_up(_):
        return True

    client = SimpleNamespace(
        directory=Directory(SimpleNamespace(provider=f"{number:04}") for number in reversed(range(2_000))),
        reputation=SimpleNamespace(trust=lambda key: 0.9 if key == "1234" else 0.5),
        caught_up=caught_up,
        settings=SimpleNamespace(bid=0),
    )
    relays = SimpleNamespace(urls=("ws://a",), event_bytes=lambda _, most: most)
    found = await list_providers(client, relays, CustomerSection(), {"wait_s": 0, "limit": 3}, {})
    assert [row["key"] for row in found["providers"]] == ["1234", "0000", "0001"]
    assert len(described) == 3 and found["matching"] == 2_000


async def test_a_live_table_asks_for_no_more_rows_than_it_shows_and_says_how_many_there_are(monkeypatch):
    asked, screens = [], []

    class Node:
        async def call(self, method, params):
            asked.append(params)
            if len(asked) == 3:
                raise InterruptError("Ctrl-C")
            rows = [gateway_fakes.listing()] * 40 if len(asked) == 1 else []
            yield Result({"providers": rows, "matching": 10_000 if rows else 0, "heard_of": 1})

    shown = cli_providers._screen
    monkeypatch.setattr(cli_providers, "_screen", lambda *of: screens.append(shown(*of)) or screens[-1])
    monkeypatch.setattr(cli_providers, "REFRESH_S", 0.0)
    with pytest.raises(InterruptError):
        await cli_providers._follow(Node(), {"wait_s": 2.0, "limit": 40})
    assert [params["limit"] for params in asked] == [40, 40, 40]
    [few, made] = screens[0].renderables
    # It fits the screen: what a terminal cannot hold is not seen at all.
    assert few == f"the {made.row_count} most trusted of 10,000 providers"
    assert made.row_count == min(40, cli_providers.out.height - 3)
    assert screens[1] == "no provider matches right now"


async def test_the_node_is_let_go_before_its_providers_are_printed(monkeypatch):
    steps = []

    class Node:
        async def call(self, method, params):
            steps.append(method)
            yield Result({"providers": [gateway_fakes.listing()], "heard_of": 1})

    @asynccontextmanager
    async def open_node(home, config):
        yield Node()
        steps.append("let go")

    monkeypatch.setattr(cli_providers, "open_home", lambda: (None, None))
    monkeypatch.setattr(cli_providers, "open_node", open_node)
    monkeypatch.setattr(cli_providers.out, "print", lambda _: steps.append("printed"))
    await cli_providers._providers({}, live=False, as_json=False)
    assert steps == ["providers", "let go", "printed"]


def test_the_keys_of_all_providers_that_a_customer_may_know_are_kept_as_they_are_shown():
    # One that keeps fewer than it is asked for in turn finds none of them.
    assert nip19.npub.cache_info().maxsize >= MAX_PROVIDERS


async def listed(**params: object) -> list[dict]:
    relays, bounds = Relays(), CustomerSection()
    for announced in ({}, {"price": None, "network": ""}, {"price": Price(Msat(7))}):
        FakeProvider(relays, now=time.time(), **announced)
    async with SwarmClient(relays, SecretKey.generate()) as client:
        return (await list_providers(client, relays, bounds, {"wait_s": 0.5, **params}, {}))["providers"]  # type: ignore[arg-type]


async def test_who_names_no_price_is_not_shown_as_free_nor_as_cheap_nor_as_paid_anywhere():
    prices = [row["price"] for row in await listed()]
    assert sorted(prices, key=str) == sorted([None, FREE.rates(), Price(Msat(7)).rates()], key=str)
    [unpriced] = [row for row in await listed() if row["price"] is None]
    assert unpriced["network"] is None
    assert [row["price"] for row in await listed(free=True)] == [FREE.rates()]
    assert None not in [row["price"] for row in await listed(most_msat=100)]
    assert None not in [row["price"] for row in await listed(network="play")]


async def test_the_stand_ins_of_gateway_and_rlm_have_the_fields_that_a_core_gives():
    [row] = await listed(free=True)
    assert set(gateway_fakes.listing()) == set(row)
    assert set(FakeNode().rows[0]) <= set(row)
    assert row["own"] is False


@pytest.mark.parametrize(
    ("msat", "network", "title", "shown"),
    [
        (None, "play", "price", "?"),
        (0, "play", "price", "free"),
        (500, "play", "play sat", "0.5+"),
        (7, "a network of a stranger", "sat", "0.007+"),
    ],
)
def test_a_price_that_nobody_named_is_shown_as_a_question(msat: int | None, network: str, title: str, shown: str):
    price = None if msat is None else Price(Msat(msat)).rates()
    row = {
        "provider": "npub1x", "name": "", "models": ["m"], "slots_free": 1, "slots": 1, "tokens_out_per_s": 1.0,
        "queue_s": 0.0, "price": price, "network": network, "trust": 0.5, "state": "ready", "rests": None,
    }  # fmt: skip
    assert _columns([row])[f">{title}"] == [shown]


async def test_a_member_of_ones_household_has_the_name_that_it_has_there():
    relays = Relays()
    member, stranger = (FakeProvider(relays, now=time.time(), name="best in town") for _ in range(2))
    async with SwarmClient(relays, SecretKey.generate()) as client:
        told = await list_providers(client, relays, CustomerSection(), {"wait_s": 0.5}, {member.public: "desk"})  # type: ignore[arg-type]
    assert {row["provider"]: row["name"] for row in told["providers"]} == {
        nip19.npub(member.public): "desk",
        nip19.npub(stranger.public): "best in town",
    }


async def test_a_provider_is_asked_about_by_its_name_its_key_or_how_its_npub_begins():
    relays = Relays()
    desk, twin, other, liar = [
        FakeProvider(relays, now=time.time(), name=name) for name in ("Desk", "twin", "Twin", "cellar")
    ]
    async with SwarmClient(relays, SecretKey.generate()) as client:
        await client.caught_up()

        async def key_of(named: str) -> str:
            found = await why_provider(client, time.time(), {"key": named}, {desk.public: "Cellar"})
            return nip19.parse_public_key(found["provider"])

        assert await key_of("desk") == desk.public == await key_of(desk.public)
        assert await key_of(nip19.npub(other.public)[:14] + "…") == other.public
        assert await key_of("cellar") == desk.public != liar.public, "a member's name is the household's to give"
        for named, told in (
            ("twin", nip19.npub(twin.public)),
            ("nobody", "is not a key"),
            ("", "is not a key"),
            (nip19.npub(twin.public)[:8], "at least the first 11 characters"),
        ):
            with pytest.raises(UsageError, match=told) as caught:
                await key_of(named)
            assert "a name, a key, or the" in caught.value.hint


async def test_ones_own_machine_is_said_to_be_trusted_and_not_to_be_unknown():
    relays = Relays()
    own, stranger = [FakeProvider(relays, now=time.time()) for _ in range(2)]
    settings = SwarmSettings(own=frozenset({own.public}))
    async with SwarmClient(relays, SecretKey.generate(), settings=settings) as client:
        await client.caught_up()
        mine, others = [await why_provider(client, 0.0, {"key": one.public}, {}) for one in (own, stranger)]
    assert mine["own"] and mine["why"] == [
        "one of your own: it gets as many jobs as it has slots, and its answers are not checked"
    ]
    assert not others["own"] and "unknown so far" in others["why"][0]


async def test_who_rests_is_shown_so_with_until_when_and_why_wherever_providers_are():
    relays = Relays()
    one, other = (
        FakeProvider(relays, now=time.time(), refuse=ErrorCode.ENGINE_FAILED, seen=seen) for seen in (True, False)
    )
    household = Household(one.public, members={one.public: "desk", other.public: "attic"})
    async with SwarmClient(relays, SecretKey.generate()) as client:
        # It fails it twice, and there is nobody else.
        with suppress(PylonError):
            await client.complete("a", timeout=2.0)
        other.announce()
        other.beat()
        async with asyncio.timeout(20):
            while len(client.directory) < 2:
                await asyncio.sleep(0.01)
        found = await list_providers(client, relays, CustomerSection(), {"wait_s": 0.5}, {})  # type: ignore[arg-type]
        rows = {row["provider"]: row for row in found["providers"]}
        why = [
            await why_provider(client, time.time(), {"key": key.public, "wait_s": 0.5}, {}) for key in (one, other)
        ]
        of_all = {row["name"]: row["rests"] for row in await members(household, other.public, client)}
    resting, ready = rows[nip19.npub(one.public)], rows[nip19.npub(other.public)]
    assert (ready["state"], ready["rests"], resting["state"]) == ("ready", None, "resting")
    rest = resting["rests"]
    assert rest["why"] == "failed or did not answer, 2 times in a row"
    assert time.time() < rest["ends_at"] < time.time() + 31.0
    assert [each["now"] for each in why] == ["is avoided for a while", "can take jobs"]
    assert [each["rests"] and each["rests"]["why"] for each in why] == [rest["why"], None]
    assert of_all["attic"] is None and of_all["desk"]["why"] == rest["why"]
    until = time.strftime("%H:%M:%S", time.localtime(rest["ends_at"]))
    assert _columns([resting, ready])["state"] == [f"rests until {until}", "ready"]
