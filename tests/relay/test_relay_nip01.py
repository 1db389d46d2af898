"""NIP-01 over the wire."""

import time
from dataclasses import replace

import pytest
from relay_peer import ALICE, BOB, note, peer

from pylon.relay.limits import RelayLimits
from pylon.relay.server import RelayServer


@pytest.fixture
async def relay(tmp_path):
    async with RelayServer(tmp_path / "relay.db") as server:
        yield server


async def test_a_published_event_is_stored_and_comes_back_as_it_was(relay):
    event = note(content='ünïcode "quoted" \n', tags=[("t", "a"), ("odd",), ("p", BOB.public, "wss://x")])
    async with peer(relay) as client:
        assert await client.publish(event) == (True, "")
        await client.say("REQ", "s", {"ids": [event.id]})
        assert (await client.hear())[2] == {**event.to_dict(), "tags": [list(tag) for tag in event.tags]}
        assert await client.hear() == ["EOSE", "s"]


async def test_a_repeated_event_is_accepted_as_a_duplicate(relay):
    event = note()
    async with peer(relay) as client:
        await client.publish(event)
        accepted, text = await client.publish(event)
        assert accepted
        assert text.startswith("duplicate:")
        assert await client.fetch({}) == [event.id]


async def test_a_duplicate_is_still_one_after_a_restart(tmp_path):
    event = note()
    for expected in ("", "duplicate: this event is stored already"):
        async with RelayServer(tmp_path / "relay.db") as relay, peer(relay) as client:
            assert await client.publish(event) == (True, expected)
            assert await client.fetch({"kinds": [1]}) == [event.id]


@pytest.mark.parametrize(
    "change",
    [
        {"content": "other"},
        {"sig": "0" * 128},
        {"pubkey": BOB.public},
        {"pubkey": "f" * 64},
        {"id": "0" * 64},
    ],
)
async def test_a_forged_event_is_refused_as_invalid(relay, change):
    forged = replace(note(), **change)
    async with peer(relay) as client:
        accepted, text = await client.publish(forged)
        assert not accepted
        assert text.startswith("invalid:")
        assert await client.fetch({}) == []


@pytest.mark.parametrize("field", ["pubkey", "kind", "tags", "content", "sig", "created_at"])
async def test_an_event_without_a_field_is_refused_with_its_id(relay, field):
    raw = note().to_dict()
    id_ = raw["id"]
    del raw[field]
    async with peer(relay) as client:
        await client.say("EVENT", raw)
        kind, ok_id, accepted, text = await client.hear()
        assert (kind, ok_id, accepted) == ("OK", id_, False)
        assert text.startswith("invalid:")


async def test_stored_events_come_newest_first_and_equal_times_lowest_id_first(relay):
    base = int(time.time()) - 100
    events = [note(content=str(n), created_at=base + n // 3) for n in range(12)]
    async with peer(relay) as client:
        for event in events:
            await client.publish(event)
        expected = [e.id for e in sorted(events, key=lambda e: (-e.created_at, e.id))]
        assert await client.fetch({"kinds": [1]}) == expected
        assert await client.fetch({"limit": 5}) == expected[:5]
        assert await client.fetch({"limit": 0}) == []
        assert await client.fetch({"limit": 2}, {"since": base, "until": base}) == expected[:2] + expected[-3:]


async def test_every_condition_of_a_filter_counts(relay):
    mine = note(kind=30, tags=[("t", "a"), ("t", "b"), ("e", "1" * 64)], created_at=1_000)
    other = note(BOB, kind=30, tags=[("t", "a"), ("T", "a")], created_at=2_000)
    async with peer(relay) as client:
        await client.publish(mine)
        await client.publish(other)
        both = [other.id, mine.id]
        for filters, expected in [
            ([{"#t": ["a", "b"]}], both),
            ([{"#t": ["b"]}], [mine.id]),
            ([{"#T": ["a"]}], [other.id]),
            ([{"#t": ["a"], "#e": ["1" * 64]}], [mine.id]),
            ([{"authors": [ALICE.public]}], [mine.id]),
            ([{"authors": [ALICE.public, BOB.public], "kinds": [30, 31]}], both),
            ([{"kinds": [31]}], []),
            ([{"kinds": []}], []),
            ([{"ids": []}], []),
            ([{"since": 1_000, "until": 2_000}], both),
            ([{"since": 1_001}], [other.id]),
            ([{"#t": ["a"], "until": 1_999}], [mine.id]),
            ([{"ids": [mine.id], "kinds": [31]}], []),
            ([{"ids": [mine.id, other.id]}, {"#t": ["b"]}], both),
        ]:
            assert await client.fetch(*filters) == expected, filters


async def test_a_live_event_reaches_every_open_subscription_that_it_matches(relay):
    async with peer(relay) as reader, peer(relay) as writer:
        await reader.request("mine", {"#p": [ALICE.public]})
        await reader.request("kind", {"kinds": [7]})
        await reader.request("not", {"kinds": [8]})
        event = note(BOB, kind=7, tags=[("p", ALICE.public)])
        await writer.publish(event)
        heard = [await reader.hear(), await reader.hear()]
        assert {message[1] for message in heard} == {"mine", "kind"}
        assert {message[2]["id"] for message in heard} == {event.id}


async def test_nothing_comes_after_close(relay):
    async with peer(relay) as client:
        await client.request("s", {"kinds": [1]})
        await client.say("CLOSE", "s")
        await client.request("other", {"kinds": [1]})
        event = note()
        await client.say("EVENT", event.to_dict())
        heard = [await client.hear(), await client.hear()]
        assert ["OK", event.id, True, ""] in heard
        assert [message[1] for message in heard if message[0] == "EVENT"] == ["other"]


async def test_a_second_req_of_one_name_replaces_the_first(relay):
    async with peer(relay) as client:
        await client.request("s", {"kinds": [1]})
        await client.request("s", {"kinds": [2]})
        one, two = note(kind=1), note(kind=2)
        await client.publish(one)
        await client.say("EVENT", two.to_dict())
        heard = [await client.hear(), await client.hear()]
        assert [message[2]["id"] for message in heard if message[0] == "EVENT"] == [two.id]


async def test_an_event_published_right_after_a_req_is_seen_once(relay):
    async with peer(relay) as client:
        for n in range(50):
            event = note(content=str(n), kind=1_000 + n)
            await client.say("EVENT", event.to_dict())
            await client.say("REQ", f"s{n}", {"ids": [event.id]})
            await client.say("CLOSE", "nothing")
            await client.say("EVENT", event.to_dict())
            events, oks = 0, 0
            while oks < 2 or events < 1:
                match await client.hear():
                    case ["EVENT", _, _]:
                        events += 1
                    case ["OK", *_]:
                        oks += 1
            assert await client.count({}) == ["COUNT", "count", {"count": n + 1}]
            assert events == 1
            await client.say("CLOSE", f"s{n}")


async def test_a_req_in_the_middle_of_a_burst_shows_every_event_once(relay):
    events = [note(content=str(n)) for n in range(300)]
    async with peer(relay) as writer, peer(relay) as reader:
        for event in events:
            await writer.say("EVENT", event.to_dict())
        await reader.say("REQ", "s", {"kinds": [1]})
        seen, eose = [], False
        while len(seen) < len(events) or not eose:
            match await reader.hear():
                case ["EVENT", "s", event]:
                    seen.append(event["id"])
                case ["EOSE", "s"]:
                    eose = True
        assert sorted(seen) == sorted(event.id for event in events)
        for _ in events:
            assert (await writer.hear())[2]


async def test_an_ephemeral_event_is_passed_on_once_and_not_stored(relay):
    event = note(kind=20_001)
    async with peer(relay) as reader, peer(relay) as writer:
        await reader.request("s", {"kinds": [20_001]})
        assert await writer.publish(event) == (True, "")
        assert (await writer.publish(event))[1].startswith("duplicate:")
        assert (await reader.hear())[2]["id"] == event.id
        assert await reader.fetch({"kinds": [20_001]}) == []


@pytest.mark.parametrize("kind", [0, 3, 10_002, 11_998, 19_999])
async def test_of_a_replaceable_kind_the_newest_stays_and_the_lower_id_of_two_equal_ones(relay, kind):
    old, new = note(kind=kind, created_at=1_000), note(kind=kind, created_at=2_000)
    twins = sorted((note(kind=kind, content=str(n), created_at=3_000) for n in range(4)), key=lambda e: e.id)
    wanted = {"kinds": [kind]}
    async with peer(relay) as client:
        await client.publish(new)
        accepted, text = await client.publish(old)
        assert (accepted, text[:10]) == (True, "duplicate:")
        assert await client.fetch(wanted) == [new.id]
        await client.publish(note(BOB, kind=kind, created_at=500))
        for event in reversed(twins):
            await client.publish(event)
        assert await client.fetch({**wanted, "authors": [ALICE.public]}) == [twins[0].id]
        assert len(await client.fetch(wanted)) == 2


async def test_a_superseded_version_is_not_delivered_live(relay):
    async with peer(relay) as client:
        await client.publish(note(kind=0, created_at=2_000))
        await client.request("s", {"kinds": [0, 1]})
        await client.say("EVENT", note(kind=0, created_at=1_000).to_dict())
        assert (await client.hear())[0] == "OK"
        last = note()
        await client.say("EVENT", last.to_dict())
        heard = [await client.hear(), await client.hear()]
        assert [message[2]["id"] for message in heard if message[0] == "EVENT"] == [last.id]


async def test_addressable_events_are_replaced_by_kind_key_and_d(relay):
    def version(d, at):
        return note(kind=31_990, tags=[("d", d)] if d is not None else [], created_at=at)

    one, two, empty, later = version("a", 1_000), version("b", 1_000), version(None, 1_000), version("a", 2_000)
    bare = version("", 3_000)
    async with peer(relay) as client:
        for event in (one, two, empty, later, bare):
            assert (await client.publish(event))[0]
        assert await client.fetch({"kinds": [31_990]}) == [bare.id, later.id, two.id]
        assert await client.fetch({"#d": ["a"]}) == [later.id]


async def test_many_versions_in_one_burst_leave_the_newest(relay):
    versions = [note(kind=11_998, content=str(n), created_at=1_000 + n % 7) for n in range(60)]
    async with peer(relay) as client:
        for event in versions:
            await client.say("EVENT", event.to_dict())
        for _ in versions:
            assert (await client.hear())[2]
        best = min(versions, key=lambda e: (-e.created_at, e.id))
        assert await client.fetch({"kinds": [11_998]}) == [best.id]


async def test_an_event_far_ahead_of_time_is_refused(relay):
    async with peer(relay) as client:
        accepted, text = await client.publish(note(created_at=int(time.time()) + 1_000))
        assert (accepted, text[:8]) == (False, "invalid:")
        assert (await client.publish(note(created_at=int(time.time()) + 800)))[0]


async def test_a_filter_answers_with_at_most_the_limit_of_the_relay(tmp_path):
    async with RelayServer(limits=RelayLimits(results=10)) as relay, peer(relay) as client:
        for n in range(15):
            await client.publish(note(content=str(n)))
        assert len(await client.fetch({})) == 10
        assert len(await client.fetch({"limit": 12})) == 10
        assert len(await client.fetch({"limit": 3})) == 3
