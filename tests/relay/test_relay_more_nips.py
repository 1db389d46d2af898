"""NIP-09, 11, 40, 42, 45, 70 and who may read encrypted jobs, over the wire."""

import asyncio
import json
import socket
from urllib.request import Request, urlopen

import pytest
from relay_peer import ALICE, BOB, EVE, note, peer
from websockets.asyncio.server import serve

from pylon.errors import SetupError
from pylon.nostr.client.nip11 import fetch_relay_information
from pylon.nostr.pool import RelayPool
from pylon.relay import server
from pylon.relay.limits import RelayLimits
from pylon.relay.server import RelayServer
from tests.manual_clock import ManualClock

NOW = 1_700_000_000


@pytest.fixture
def clock():
    return ManualClock(wall=float(NOW))


@pytest.fixture
async def relay(clock):
    async with RelayServer(clock=clock) as server:
        yield server


def at(seconds=0, **fields):
    return note(**{"created_at": NOW + seconds, **fields})


# NIP-09


async def test_a_deletion_request_deletes_its_authors_event_and_that_one_never_comes_back(relay):
    event = at()
    async with peer(relay) as client:
        await client.publish(event)
        deletion = at(kind=5, tags=[("e", event.id)])
        assert await client.publish(deletion) == (True, "")
        assert await client.fetch({}) == [deletion.id]
        accepted, text = await client.publish(event)
        assert (accepted, text[:8]) == (False, "blocked:")


async def test_a_deletion_request_that_comes_first_holds_too(relay):
    event = at()
    async with peer(relay) as client:
        await client.publish(at(kind=5, tags=[("e", event.id)]))
        assert not (await client.publish(event))[0]


async def test_a_replaced_version_that_comes_back_after_a_deletion_is_stored_and_not_called_a_duplicate(relay):
    old, new = at(kind=0, content="old"), at(1, kind=0, content="new")
    deletion = at(2, kind=5, tags=[("e", new.id)])
    async with peer(relay) as client:
        for event in (old, new, deletion, old):
            assert await client.publish(event) == (True, "")
        assert await client.fetch({}) == [deletion.id, old.id]


async def test_nobody_deletes_what_another_one_wrote(relay):
    event, profile, later = at(), at(kind=30_000, tags=[("d", "x")]), at(content="later")
    async with peer(relay) as client:
        await client.publish(event)
        await client.publish(profile)
        await client.publish(
            at(
                key=EVE,
                kind=5,
                tags=[("e", event.id), ("e", later.id), ("a", f"30000:{ALICE.public}:x"), ("e", "z"), ("a", "q")],
            )
        )
        assert set(await client.fetch({"authors": [ALICE.public]})) == {event.id, profile.id}
        assert (await client.publish(later))[0]


async def test_an_address_is_deleted_up_to_the_time_of_the_request(relay):
    address = f"30000:{ALICE.public}:x"

    def version(seconds):
        return at(seconds, kind=30_000, tags=[("d", "x")])

    async with peer(relay) as client:
        await client.publish(version(-20))
        deletion = at(-10, kind=5, tags=[("a", address)])
        await client.publish(deletion)
        assert await client.fetch({"kinds": [30_000]}) == []
        assert not (await client.publish(version(-15)))[0]
        new = version(-5)
        assert (await client.publish(new))[0]
        await client.publish(at(-8, kind=5, tags=[("a", address)]))
        assert await client.fetch({"kinds": [30_000]}) == [new.id]


async def test_a_replaceable_event_is_deleted_by_address(relay):
    async with peer(relay) as client:
        await client.publish(at(-5, kind=11_998))
        await client.publish(at(kind=5, tags=[("a", f"11998:{ALICE.public}:")]))
        assert await client.fetch({"kinds": [11_998]}) == []


@pytest.mark.parametrize(("kind", "named"), [(30_000, "x"), (11_998, "")])
async def test_an_event_that_was_deleted_by_its_address_never_comes_back(relay, kind, named):
    event = at(-5, kind=kind, tags=[("d", "x")])
    async with peer(relay) as client:
        assert await client.publish(event) == (True, "")
        assert (await client.publish(event))[1].startswith("duplicate:")
        await client.publish(at(kind=5, tags=[("a", f"{kind}:{ALICE.public}:{named}")]))
        accepted, text = await client.publish(event)
        assert (accepted, text[:8]) == (False, "blocked:")


async def test_deleting_a_deletion_request_has_no_effect(relay):
    event = at()
    async with peer(relay) as client:
        deletion = at(kind=5, tags=[("e", event.id)])
        await client.publish(deletion)
        await client.publish(at(kind=5, tags=[("e", deletion.id)]))
        assert deletion.id in await client.fetch({"kinds": [5]})
        assert not (await client.publish(event))[0]


async def test_a_deletion_and_its_event_in_one_burst_leave_only_the_deletion(relay):
    events = [at(content=str(n)) for n in range(30)]
    deletion = at(kind=5, tags=[("e", event.id) for event in events])
    async with peer(relay) as client:
        for event in [*events[:15], deletion, *events[15:]]:
            await client.say("EVENT", event.to_dict())
        accepted = [(await client.hear())[2] for _ in range(31)]
        assert accepted == [True] * 16 + [False] * 15
        assert await client.fetch({}) == [deletion.id]


# NIP-40


async def test_an_event_is_not_served_after_its_expiration_nor_taken_after_it(relay, clock):
    event = at(tags=[("expiration", str(NOW + 60))])
    async with peer(relay) as client:
        assert (await client.publish(event))[0]
        assert await client.fetch({}) == [event.id]
        clock.advance(60)
        assert await client.fetch({}) == []
        assert await client.count({}) == ["COUNT", "count", {"count": 0}]
        late = at(content="late", tags=[("expiration", str(NOW + 60))])
        accepted, text = await client.publish(late)
        assert (accepted, text[:8]) == (False, "invalid:")


@pytest.mark.parametrize("ends", ["soon", "", "-1", "1" * 17])
async def test_an_event_that_says_illegibly_when_it_ends_is_not_kept_for_ever(relay, ends):
    async with peer(relay) as client:
        accepted, text = await client.publish(at(tags=[("expiration", ends)]))
        assert (accepted, text) == (False, "invalid: the expiration tag holds no Unix time")
        assert await client.fetch({}) == []


# NIP-11


async def get(relay, path="/", accept="*/*"):
    request = Request(relay.url.replace("ws", "http") + path, headers={"Accept": accept})

    def read():
        with urlopen(request, timeout=10) as answer:
            return answer.headers, answer.read()

    return await asyncio.to_thread(read)


async def test_the_information_document_names_the_nips_and_every_limit():
    limits = RelayLimits(
        subscriptions=7, writes_per_minute=90, kinds=frozenset({1, 5050}), tag_value_bytes=1_024, results=33
    )
    async with RelayServer(limits=limits, require_auth=True) as relay:
        headers, body = await get(relay, accept="application/nostr+json")
    document = json.loads(body)
    assert headers["content-type"] == "application/nostr+json"
    assert headers["access-control-allow-origin"] == "*"
    assert {1, 9, 11, 40, 42, 45, 70} == set(document["supported_nips"])
    told = document["limitation"]
    assert told["max_subscriptions"] == 7
    assert told["max_limit"] == 33
    assert told["auth_required"] is True
    assert told["restricted_writes"] is True
    values = list(told.values())
    for name in RelayLimits.__dataclass_fields__:
        value = getattr(limits, name)
        assert (value if name != "kinds" else sorted(value)) in values, name


async def test_a_content_as_long_as_the_document_says_is_taken_and_none_that_is_longer(relay):
    _, body = await get(relay, accept="application/nostr+json")
    longest = json.loads(body)["limitation"]["max_content_length"]
    async with peer(relay) as client:
        assert await client.publish(at(content="x" * longest)) == (True, "")
        assert (await client.publish(at(content="x" * (longest + 1))))[1].startswith("invalid:")
    # What Pylon itself reads out of it is the bound of the relay.
    assert (await fetch_relay_information(relay.url)).event_bytes == RelayLimits().event_bytes


async def test_health_and_a_plain_visit_are_answered(relay):
    async with peer(relay) as client:
        await client.request("s", {})
        _, health = await get(relay, "/health")
        assert json.loads(health) == {"status": "ok", "connections": 1, "subscriptions": 1}
        assert b"Nostr relay" in (await get(relay))[1]


# NIP-42


async def test_with_required_authentication_nothing_is_read_or_written_before_it(clock):
    async with RelayServer(clock=clock, require_auth=True) as relay, peer(relay) as client:
        assert (await client.publish(at()))[1].startswith("auth-required:")
        assert (await client.fetch({})).startswith("auth-required:")
        assert (await client.count({}))[2].startswith("auth-required:")
        assert await client.authenticate(ALICE, relay.url, created_at=NOW) == (True, "")
        assert (await client.publish(at(key=BOB)))[0]
        assert len(await client.fetch({})) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"created_at": NOW - 601},
        {"created_at": NOW + 601},
        {"kind": 1},
        {"tags": []},
        {"tags": [("relay", "ws://127.0.0.1"), ("challenge", "another")]},
    ],
)
async def test_a_wrong_answer_to_the_challenge_is_refused(relay, changes):
    async with peer(relay) as client:
        accepted, text = await client.authenticate(ALICE, relay.url, **{"created_at": NOW, **changes})
        assert (accepted, text[:8]) == (False, "invalid:")


async def test_an_answer_meant_for_another_relay_is_refused(relay):
    async with peer(relay) as client:
        port = relay.url.rpartition(":")[2]
        for url in (f"wss://evil.example:{port}", f"http://127.0.0.1:{port}", f"127.0.0.1:{port}", "ws://[", ""):
            assert not (await client.authenticate(ALICE, url, created_at=NOW))[0], url


async def test_an_answer_meant_for_another_port_of_this_machine_is_refused(relay):
    async with peer(relay) as client:
        for url in ("ws://127.0.0.1:18999", "ws://127.0.0.1", "wss://localhost", "ws://[::1]:7"):
            accepted, text = await client.authenticate(ALICE, url, created_at=NOW)
            assert not accepted, url
            # Whoever runs both has to know what to set.
            assert text.startswith("invalid:") and "public_urls" in text


async def test_an_answer_that_names_this_machine_at_the_relays_port_is_accepted(relay):
    port = relay.url.rpartition(":")[2]
    name = socket.gethostname().lower().removesuffix(".local")
    for host in ("127.0.0.1", "LOCALHOST", "[::1]", name, f"{name}.local"):
        async with peer(relay) as client:
            assert (await client.authenticate(ALICE, f"ws://{host}:{port}", created_at=NOW))[0], host


async def test_an_answer_that_names_a_mac_as_its_invites_do_is_accepted(relay, monkeypatch):
    # Its host name may be one that the router gave.
    monkeypatch.setattr("pylon.relay.server.multicast_name", lambda: "anns-macbook-pro")
    port = relay.url.rpartition(":")[2]
    async with peer(relay) as client:
        assert (await client.authenticate(ALICE, f"ws://Anns-MacBook-Pro.local:{port}", created_at=NOW))[0]


async def test_the_public_addresses_of_the_relay_are_accepted_and_no_other_port_there(clock):
    public = ["wss://Relay.Example/x", "ws://192.168.1.5:8000"]
    async with RelayServer(clock=clock, public_urls=public) as relay, peer(relay) as client:
        port = relay.url.rpartition(":")[2]
        for url in ("wss://relay.example", "wss://relay.example:443/x", "ws://192.168.1.5:8000"):
            assert (await client.authenticate(ALICE, url, created_at=NOW))[0], url
        for url in (
            f"ws://relay.example:{port}",
            "ws://relay.example",
            "ws://192.168.1.5",
            f"ws://192.168.1.5:{port}",
        ):
            assert not (await client.authenticate(ALICE, url, created_at=NOW))[0], url


async def test_a_relay_on_another_port_of_the_same_machine_cannot_read_as_who_came_to_it(clock):
    hidden = job()
    async with RelayServer(clock=clock) as ours, peer(ours) as writer, peer(ours) as passing:
        await writer.publish(hidden)
        signed = asyncio.get_running_loop().create_future()

        async def evil(socket):
            await socket.send(json.dumps(["AUTH", passing.challenge]))
            async for frame in socket:
                if json.loads(frame)[0] == "AUTH" and not signed.done():
                    signed.set_result(json.loads(frame)[1])

        async with serve(evil, "127.0.0.1", 0) as other:
            port = other.sockets[0].getsockname()[1]
            pool = RelayPool([f"ws://127.0.0.1:{port}"], secret=BOB, clock=clock)
            pool.start()
            try:
                answer = await asyncio.wait_for(signed, 10)
                await passing.say("AUTH", answer)
                assert (await passing.hear())[2] is False
                assert await passing.fetch({"#p": [BOB.public]}) == []
            finally:
                await pool.close()


async def test_a_forged_answer_to_the_challenge_is_refused(relay):
    async with peer(relay) as client:
        event = at(kind=22_242, tags=[("relay", relay.url), ("challenge", client.challenge)]).to_dict()
        await client.say("AUTH", {**event, "pubkey": BOB.public})
        assert (await client.hear())[2] is False


async def test_an_auth_event_is_never_published(relay):
    async with peer(relay) as client:
        assert not (await client.publish(at(kind=22_242)))[0]


async def test_every_connection_has_a_challenge_of_its_own(relay):
    async with peer(relay) as one, peer(relay) as two:
        assert one.challenge != two.challenge


async def test_keys_of_a_connection_are_limited(clock):
    async with RelayServer(clock=clock, limits=RelayLimits(keys=1)) as relay, peer(relay) as client:
        assert (await client.authenticate(ALICE, relay.url, created_at=NOW))[0]
        assert (await client.authenticate(BOB, relay.url, created_at=NOW))[1].startswith("restricted:")


# Encrypted jobs


def job(kind=5940, author=ALICE, to=BOB, **fields):
    return at(key=author, kind=kind, tags=[("p", to.public), ("encrypted",)], **fields)


@pytest.mark.parametrize("kind", [5940, 6940, 5050, 6050, 7000])
async def test_an_encrypted_job_is_shown_to_its_author_and_its_recipient_only(relay, kind):
    event = job(kind)
    for key, allowed in ((ALICE, True), (BOB, True), (EVE, False)):
        async with peer(relay) as client:
            if key is ALICE:
                await client.publish(event)
            await client.authenticate(key, relay.url, created_at=NOW)
            expected = [event.id] if allowed else []
            assert await client.fetch({"kinds": [kind]}) == expected
            assert await client.fetch({"ids": [event.id]}) == expected
            assert await client.fetch({"#p": [BOB.public]}) == expected
            assert await client.count({}) == ["COUNT", "count", {"count": len(expected)}]


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(("wanted", "told"), [({"kinds": [5940]}, True), ({}, True), ({"kinds": [1, 31_990]}, False)])
async def test_who_asks_for_what_may_be_private_is_told_to_authenticate_whether_or_not_there_is_any(
    relay, wanted, told, there
):
    async with peer(relay) as writer, peer(relay) as reader:
        if there:
            await writer.publish(job())
        heard = []
        # Once a connection: what follows tells nothing either.
        for name in "ab":
            await reader.say("REQ", name, wanted)
        await reader.say("COUNT", "c", {"kinds": [5940]})
        while not heard or heard[-1][0] != "COUNT":
            heard.append(await reader.hear())
        assert heard[0] == ["EOSE", "a"]
        assert [said[1][:14] for said in heard if said[0] == "NOTICE"] == ["auth-required:"] * told
        assert [said[0] for said in heard if said[0] != "NOTICE"] == ["EOSE", "EOSE", "COUNT"]


async def test_who_has_authenticated_is_not_told_to(relay):
    async with peer(relay) as client:
        await client.authenticate(BOB, relay.url, created_at=NOW)
        await client.say("REQ", "s", {"kinds": [5940]})
        await client.say("COUNT", "c", {})
        assert [(await client.hear())[0] for _ in range(2)] == ["EOSE", "COUNT"]


async def test_a_live_job_between_two_others_is_no_word_to_a_stranger(relay):
    hidden, plain = job(), at()
    async with peer(relay) as writer, peer(relay) as stranger:
        wanted = [{"authors": [ALICE.public], "#p": [BOB.public], "kinds": [5940]}, {"kinds": [1]}]
        await stranger.request("s", *wanted)
        assert (await stranger.hear())[0] == "NOTICE"
        await writer.publish(hidden)
        await writer.publish(plain)
        assert (await stranger.hear())[2]["id"] == plain.id


async def test_a_live_encrypted_job_reaches_its_recipient_and_nobody_else(relay):
    async with peer(relay) as writer, peer(relay) as bob, peer(relay) as eve, peer(relay) as stranger:
        await bob.authenticate(BOB, relay.url, created_at=NOW)
        await eve.authenticate(EVE, relay.url, created_at=NOW)
        for client in (bob, eve, stranger):
            await client.request("s", {})
        assert (await stranger.hear())[0] == "NOTICE"
        hidden, plain = job(), at()
        await writer.publish(hidden)
        await writer.publish(plain)
        assert [(await bob.hear())[2]["id"], (await bob.hear())[2]["id"]] == [hidden.id, plain.id]
        assert (await eve.hear())[2]["id"] == plain.id
        assert (await stranger.hear())[2]["id"] == plain.id


async def test_a_subscription_opened_before_authentication_is_shown_what_was_withheld(relay):
    hidden = [job(content=str(n)) for n in range(3)]
    async with peer(relay) as writer, peer(relay) as bob:
        await writer.publish(hidden[0])
        await bob.request("jobs", {"#p": [BOB.public]})
        await writer.publish(hidden[1])
        await bob.say("CLOSE", "none")
        await bob.authenticate(BOB, relay.url, created_at=NOW)
        await writer.publish(hidden[2])
        seen = set()
        while len(seen) < 3:
            match await bob.hear():
                case ["EVENT", "jobs", event]:
                    assert event["id"] not in seen
                    seen.add(event["id"])
        assert seen == {event.id for event in hidden}


async def test_a_limit_counts_only_what_the_reader_may_see(relay):
    mine = at(kind=5940, content="open")
    async with peer(relay) as client:
        await client.publish(mine)
        for n in range(5):
            await client.publish(job(content=str(n), created_at=NOW + 10))
        assert await client.fetch({"kinds": [5940], "limit": 1}) == [mine.id]


async def test_an_open_job_is_shown_to_all(relay):
    event = at(kind=5050, tags=[("p", BOB.public)])
    async with peer(relay) as client:
        await client.publish(event)
        assert await client.fetch({"kinds": [5050]}) == [event.id]


# NIP-45


async def test_count_counts_an_event_once_and_ignores_limit(relay):
    async with peer(relay) as client:
        for n in range(5):
            await client.publish(at(content=str(n), tags=[("t", "a"), ("t", "b")]))
        assert await client.count({"kinds": [1], "limit": 1}, {"#t": ["a", "b"]}) == ["COUNT", "count", {"count": 5}]


# NIP-70


async def test_a_protected_event_is_taken_from_its_authenticated_author_only(relay):
    event = at(tags=[("-",)])
    async with peer(relay) as client:
        assert (await client.publish(event))[1].startswith("auth-required:")
        await client.authenticate(EVE, relay.url, created_at=NOW)
        assert (await client.publish(event))[1].startswith("restricted:")
        await client.authenticate(ALICE, relay.url, created_at=NOW)
        assert await client.publish(event) == (True, "")


@pytest.mark.parametrize(
    ("content", "taken"),
    [
        ('{"tags":[["-"]]}', False),
        (r'{"tags":[["\u002d"]]}', False),
        ('{"tags":[["p"]]}', True),
        ('"-"', True),
        ('{"-"', True),
        ("", True),
    ],
)
async def test_a_repost_that_holds_a_protected_event_is_refused(relay, content, taken):
    async with peer(relay) as client:
        assert (await client.publish(at(kind=6, content=content)))[0] is taken


# Write rules


async def test_only_listed_keys_may_write_where_a_list_is_given(clock):
    writers = frozenset({ALICE.public})
    async with RelayServer(clock=clock, allow_writers=writers) as relay, peer(relay) as client:
        assert (await client.publish(at()))[0]
        assert (await client.publish(at(key=EVE)))[1].startswith("restricted:")


async def test_only_listed_keys_may_read_where_a_list_is_given_and_they_prove_it(clock):
    async with RelayServer(clock=clock, allow_readers=frozenset({ALICE.public})) as relay, peer(relay) as client:
        assert (await client.fetch({})).startswith("auth-required:")
        await client.authenticate(EVE, relay.url, created_at=NOW)
        assert (await client.fetch({})).startswith("restricted:")
        await client.authenticate(ALICE, relay.url, created_at=NOW)
        assert await client.fetch({}) == []


async def test_who_is_taken_off_the_list_of_readers_gets_no_more_live_events(clock):
    readers = {ALICE.public}
    async with RelayServer(clock=clock, allow_readers=readers) as relay, peer(relay) as reader, peer(relay) as writer:
        await reader.authenticate(ALICE, relay.url, created_at=NOW)
        assert await reader.request("live", {}) == []
        first = at(content="first")
        await writer.publish(first)
        assert (await reader.hear())[2]["id"] == first.id
        readers.clear()
        await writer.publish(at(content="second"))
        # The next thing said is the answer to this, so nothing was said before it.
        assert (await reader.fetch({})).startswith("restricted:")


async def test_who_is_taken_off_the_list_of_readers_is_told_so_for_each_subscription(clock, monkeypatch):
    monkeypatch.setattr(server, "RECHECK_S", 0.01)
    readers = {ALICE.public, BOB.public}
    async with RelayServer(clock=clock, allow_readers=readers) as relay, peer(relay) as gone, peer(relay) as stays:
        for reader, key in ((gone, ALICE), (stays, BOB)):
            await reader.authenticate(key, relay.url, created_at=NOW)
            assert await reader.request("live", {}) == await reader.request("quiet", {"kinds": [5]}) == []
        readers.remove(ALICE.public)
        closed = [await gone.hear(), await gone.hear()]
        assert sorted(said[:2] for said in closed) == [["CLOSED", "live"], ["CLOSED", "quiet"]]
        assert all(said[2].startswith("restricted:") for said in closed)
        assert await stays.fetch({}) == []


async def test_writes_are_paced_and_flow_again_later(clock):
    async with RelayServer(clock=clock, limits=RelayLimits(writes_per_minute=60)) as relay, peer(relay) as client:
        answers = [await client.publish(at(content=str(n))) for n in range(61)]
        assert all(accepted for accepted, _ in answers[:60])
        assert answers[60][1].startswith("rate-limited:")
        clock.advance(1)
        assert (await client.publish(at(content="later")))[0]


async def test_tag_values_are_limited_where_asked_for(clock):
    async with RelayServer(clock=clock, limits=RelayLimits(tag_value_bytes=4)) as relay, peer(relay) as client:
        assert (await client.publish(at(tags=[("t", "abcd"), ("title", "abcdef"), ("t",)])))[0]
        assert not (await client.publish(at(tags=[("t", "äbcd")])))[0]


async def test_a_port_that_is_taken_is_named_in_the_error(relay):
    port = int(relay.url.rpartition(":")[2])
    with pytest.raises(SetupError, match=f"port {port}: Address already in use"):
        await RelayServer(port=port).start()
