"""Whom a customer is among, and who looks at that."""

import time
from dataclasses import replace
from typing import Any

import pytest

from pylon.nostr.keys import SecretKey
from pylon.swarm.checks.reputation import Reputation, Seen
from pylon.swarm.circle import Circle
from pylon.swarm.client import SwarmClient
from pylon.swarm.job import JobSpec
from pylon.swarm.settings import SwarmSettings
from tests.swarm.fakes import FakeProvider, FakeRelays

A, B, C = (digit * 64 for digit in "abc")


def test_one_s_own_and_those_who_alone_may_be_asked_are_kept_and_strangers_are_not() -> None:
    assert [Circle(frozenset({A}), frozenset({B})).keeps(key) for key in (A, B, C)] == [True, True, False]
    assert [Circle(frozenset({A})).keeps(key) for key in (A, B)] == [True, False]


def test_a_change_says_of_whom_something_else_holds() -> None:
    circle = Circle(frozenset({A, B}))
    assert circle.change(own=frozenset({B, C}), allow=frozenset({A})) == {A, C}
    assert [circle.is_own(key) for key in (A, B, C)] == [False, True, True]
    assert circle.change(own=frozenset({B, C}), allow=None) == frozenset()


@pytest.mark.parametrize("joins", [False, True], ids=["one's own, and anybody may be asked", "a member that joins"])
async def test_a_table_full_of_strangers_has_room_for_one_s_own_also_for_those_who_join(joins: bool) -> None:
    relays, now = FakeRelays(), time.time()
    known, late = FakeProvider(relays, now=now, seen=False), FakeProvider(relays, now=now, seen=False)
    mine = frozenset({known.public})
    settings = SwarmSettings(own=mine, allow=mine if joins else None, checks=None)
    swarm = SwarmClient(relays, SecretKey.generate(), settings=settings)
    crowd(swarm, relays)
    if joins:
        swarm.change_circle(own=mine | {late.public}, allow=mine | {late.public})
    who = late if joins else known
    stored = list(relays.stored)
    who.announce()
    who.beat()
    for event in [event for key, event in relays.stored.items() if key not in stored]:
        swarm.directory.observe(event, now)
    assert swarm.directory.turned_away > 0
    assert swarm.directory.get(who.public) is not None


def crowd(swarm: SwarmClient, relays: FakeRelays) -> None:
    """Strangers that are alive, more than the table holds."""
    model = FakeProvider(relays, now=time.time())
    swarm.directory._capacity = 20
    said = [event for event in relays.stored.values() if event.pubkey == model.public]
    for key in (f"{number:064x}" for number in range(1, 30)):
        for event in said:
            swarm.directory.observe(replace(event, pubkey=key, id=key), time.time())


async def test_who_joins_is_seen_as_one_s_own_by_all_who_look_and_who_leaves_by_none() -> None:
    relays, reputation = FakeRelays(), Reputation()
    one = FakeProvider(relays, now=time.time())
    for _ in range(4):
        reputation.note(one.public, Seen.LOST, time.time())
    settings = SwarmSettings(allow=frozenset({A}))
    async with SwarmClient(relays, SecretKey.generate(), settings=settings, reputation=reputation) as swarm:
        assert await swarm.caught_up()
        listing = swarm.directory.get(one.public)
        assert listing is not None
        job = JobSpec("a question")

        def seen() -> dict[str, Any]:
            return {
                "asked": not swarm.why_not(job, listing),
                "out": reputation.is_out(one.public, time.time()),
                "own": swarm._parts.deciders.circle.is_own(one.public),
                "kept": swarm.circle.keeps(one.public),
            }

        stranger = {"asked": False, "out": True, "own": False, "kept": False}
        assert seen() == stranger
        member = frozenset({one.public})
        swarm.change_circle(own=member, allow=member)
        assert seen() == {"asked": True, "out": False, "own": True, "kept": True}
        assert (await swarm.complete(job)).provider == one.public
        swarm.change_circle(own=frozenset(), allow=frozenset({A}))
        assert seen() == stranger
