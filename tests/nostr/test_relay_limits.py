"""What a relay says of its limits is read before it is used and obeyed (NIP-11); and "rate-limited" paces us."""

import asyncio
import logging
import time
from collections import Counter
from contextlib import asynccontextmanager
from http import HTTPStatus

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.http11 import Response

from pylon.errors import RateLimitedError, RelayError
from pylon.nostr.client.backoff import Backoff
from pylon.nostr.client.connection import RelayConnection
from pylon.nostr.client.nip11 import RelayInformation
from pylon.nostr.event import AROUND_CONTENT_BYTES, EventDraft
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.relay.limits import RelayLimits
from pylon.relay.server import RelayServer
from tests.nostr.scripted import ScriptedRelay, polite
from tests.waiting import pass_time, until

KEY = SecretKey(bytes(31) + b"\x07")
QUICK = Backoff(first=0.02, most=0.05)


class Documented(ScriptedRelay):
    """Answers HTTP with a NIP-11 document of these limits; None hangs up instead."""

    def __init__(self, answer=polite, **limitation):
        super().__init__(answer)
        self.limitation = limitation
        self.asked = 0

    async def up(self) -> None:
        self._server = await serve(self._serve, "127.0.0.1", self._port, process_request=self._http)
        self._port = next(iter(self._server.sockets)).getsockname()[1]

    async def _http(self, connection, request):
        if "upgrade" in request.headers:
            return None
        self.asked += 1
        body = orjson.dumps({"limitation": self.limitation})
        return Response(HTTPStatus.OK, "OK", Headers({"Content-Length": str(len(body))}), body)


@asynccontextmanager
async def connected(relay, **options):
    connection = RelayConnection(relay.url, backoff=QUICK, **options)
    connection.start()
    try:
        assert await connection.wait_open(10)
        yield connection
    finally:
        await connection.close()


def note(text="", created_at=None):
    return KEY.sign(EventDraft(1, text, created_at=created_at))


async def test_limits_are_known_when_the_relay_is_first_used():
    async with Documented(max_message_length=5_000, max_limit=7) as relay, connected(relay) as connection:
        assert connection.status.information == RelayInformation(max_message_length=5_000, max_limit=7)
        assert connection.status.information.event_bytes == 4_990


async def test_a_relay_that_says_nothing_of_itself_is_used_all_the_same():
    async with ScriptedRelay() as relay, connected(relay) as connection:
        assert connection.status.information == RelayInformation()
        assert (await connection.publish(note())).accepted


async def test_a_relay_that_does_not_answer_the_question_is_waited_for_a_second_only(monkeypatch):
    monkeypatch.setattr("pylon.nostr.client.connection.LEARN_SECONDS", 0.1)

    async def never(url):
        await asyncio.sleep(60)
        return RelayInformation()

    async with ScriptedRelay() as relay:
        began = time.monotonic()
        async with connected(relay, learn=never) as connection:
            assert (await connection.publish(note())).accepted
        assert time.monotonic() - began < 5


async def test_limits_stay_in_force_when_a_later_question_is_not_answered():
    said = iter([RelayInformation(max_limit=3)])

    async def once(url):
        try:
            return next(said)
        except StopIteration:
            raise RelayError("silent now") from None

    async with ScriptedRelay() as relay, connected(relay, learn=once) as connection:
        await relay.down()
        await relay.up()
        await relay.until(lambda: relay.connections == 2)
        assert await connection.wait_open(10)
        assert connection.status.information.max_limit == 3


@pytest.mark.parametrize(
    ("limits", "size"),
    [
        ({}, None),
        ({"max_message_length": 1_000}, 990),
        ({"max_content_length": 800}, 800 + AROUND_CONTENT_BYTES),
        ({"max_message_length": 1_000, "max_content_length": 2_000}, 990),
        ({"max_message_length": 3}, 0),
    ],
)
def test_the_largest_event_fits_message_and_content(limits, size):
    assert RelayInformation(**limits).event_bytes == size


async def test_a_pool_tells_the_largest_event_that_one_of_the_relays_takes():
    async with Documented(max_message_length=9_010) as small, Documented(max_content_length=20_000) as large:
        pool = RelayPool([small.url, large.url], backoff=QUICK)
        assert pool.event_bytes(most=65_536) == 65_536
        pool.start()
        await until(lambda: None not in [status.information.event_bytes for status in pool.statuses])
        assert pool.event_bytes([small.url], most=65_536) == 9_000
        assert pool.event_bytes(most=65_536) == 20_000 + AROUND_CONTENT_BYTES
        assert pool.event_bytes(most=5_000) == 5_000
        await pool.close()


async def test_a_filter_asks_for_no_more_than_the_relay_gives():
    async with Documented(max_limit=50) as relay, connected(relay) as connection:
        await connection.query((Filter(limit=200), Filter(limit=20), Filter(kinds=frozenset({1}))))
        assert [f.get("limit") for f in relay.of("REQ")[0][2:]] == [50, 20, None]


async def test_queries_take_turns_at_the_subscriptions_that_a_relay_allows():
    open_now, most = set(), 0

    async def slow(socket, name):
        await asyncio.sleep(0.05)
        await socket.send(orjson.dumps(["EOSE", name]).decode())

    tasks = []

    def counting(relay, socket, message):
        nonlocal most
        match message:
            case ["REQ", name, *_]:
                open_now.add(name)
                most = max(most, len(open_now))
                tasks.append(asyncio.create_task(slow(socket, name)))
            case ["CLOSE", name]:
                open_now.discard(name)

    async with Documented(counting, max_subscriptions=3) as relay, connected(relay) as connection:
        connection.subscribe(lambda: (Filter(),), asyncio.Queue().put)
        await asyncio.gather(*(connection.query((Filter(),)) for _ in range(10)))
        assert (len(relay.of("REQ")), most) == (11, 3)


async def test_a_query_goes_out_even_where_no_subscription_is_left():
    async with Documented(max_subscriptions=1) as relay, connected(relay) as connection:
        connection.subscribe(lambda: (Filter(),), asyncio.Queue().put)
        assert await connection.query((Filter(),), timeout=5) == []


async def test_a_query_goes_on_where_a_full_page_ends():
    stored = [note(str(n), created_at=1_000 + n // 3) for n in range(50)]

    def pages(relay, socket, message):
        match message:
            case ["REQ", name, wanted]:
                matching = [e for e in reversed(stored) if e.created_at <= wanted.get("until", 2_000)]
                return [*(["EVENT", name, e.to_dict()] for e in matching[:20]), ["EOSE", name]]

    async with Documented(pages, max_limit=20) as relay, connected(relay) as connection:
        found = await connection.query((Filter(kinds=frozenset({1})),))
        assert {event.id for event in found} == {event.id for event in stored} and len(found) == len(stored)


@asynccontextmanager
async def holding(*events, results=5):
    """A connection to a relay that gives so many of these at a time."""
    async with RelayServer(limits=RelayLimits(results=results)) as relay, connected(relay) as connection:
        await asyncio.gather(*(connection.publish(event) for event in events))
        yield connection


def kinds(*numbers):
    return tuple(Filter(kinds=frozenset({number})) for number in numbers)


async def test_each_of_several_filters_has_pages_of_its_own():
    old = [KEY.sign(EventDraft(1, str(n), created_at=1_000 + n)) for n in range(5)]
    new = [KEY.sign(EventDraft(2, str(n), created_at=2_000 + n)) for n in range(20)]
    async with holding(*old, *new) as connection:
        found = await connection.query(kinds(1, 2))
        assert len(found) == 25 and set(found) == {*old, *new}
        bounded = await connection.query((*kinds(1), Filter(kinds=frozenset({2}), limit=3)))
        assert set(bounded) == {*old, *new[-3:]}


async def test_more_events_of_one_second_than_a_page_holds_do_not_hide_older_ones(caplog):
    crowd = [note(f"at once {n}", 2_000) for n in range(8)]
    old = [note(f"older {n}", 1_000 + n) for n in range(6)]
    async with holding(*crowd, *old) as connection:
        found = await connection.query(kinds(1))
        assert set(old) < set(found) and len(set(found) & set(crowd)) == 5
        assert "more events in one second" in caplog.text
        assert len(await connection.query((Filter(kinds=frozenset({1}), since=2_000, until=2_000),))) == 5


async def test_a_limit_beyond_the_relays_is_filled_page_by_page_with_the_newest():
    events = [note(str(n), 1_000 + n // 2) for n in range(30)]
    async with holding(*events) as connection:
        for limit in (3, 5, 6, 12, 29, 40):
            found = await connection.query((Filter(kinds=frozenset({1}), limit=limit),))
            newest = sorted(events, key=lambda event: (-event.created_at, event.id))[:limit]
            assert set(found) == set(newest)


async def test_a_relay_that_gives_fewer_where_no_limit_is_asked_for_is_asked_on():
    stored = [note(str(n), created_at=1_000 + n) for n in range(25)]

    def few(relay, socket, message):
        match message:
            case ["REQ", name, wanted]:
                matching = [e for e in reversed(stored) if e.created_at <= wanted.get("until", 2_000)]
                return [*(["EVENT", name, e.to_dict()] for e in matching[: wanted.get("limit", 10)]), ["EOSE", name]]

    async with Documented(few, max_limit=500, default_limit=10) as relay, connected(relay) as connection:
        assert set(await connection.query((Filter(kinds=frozenset({1})),))) == set(stored)


async def test_of_a_second_that_fills_a_page_each_authors_events_are_asked_for(caplog):
    keys = [SecretKey(bytes(31) + bytes((n,))) for n in range(1, 5)]
    crowd = [key.sign(EventDraft(1, str(n), created_at=2_000)) for key in keys for n in range(4)]
    old = [key.sign(EventDraft(1, "older", created_at=1_000)) for key in keys]
    async with holding(*crowd, *old) as connection:
        wanted = Filter(kinds=frozenset({1}), authors=frozenset(key.public for key in keys))
        assert set(await connection.query((wanted,))) == {*crowd, *old}
        assert "more events in one second" not in caplog.text


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from((1, 2, 4)), st.integers(0, 12)), max_size=25), st.integers(3, 6))
def test_pages_bring_all_of_every_filter_but_what_one_second_has_too_much_of(placed, results):
    events = {KEY.sign(EventDraft(kind, str(n), created_at=at)) for n, (kind, at) in enumerate(placed)}

    async def ask():
        async with holding(*events, results=results) as connection:
            return [
                await connection.query(asked) for asked in (kinds(1, 2, 4), (Filter(kinds=frozenset({1, 2, 4})),))
            ]

    crowded = Counter(placed)
    for found in asyncio.run(ask()):
        assert len(found) == len(set(found))
        lost = events - set(found)
        assert all(crowded[event.kind, event.created_at] > results for event in lost)


async def test_our_own_relays_limits_are_obeyed(tmp_path):
    async with RelayServer(tmp_path / "relay.db") as relay, connected(relay) as connection:
        assert connection.status.information.max_subscriptions == 64
        assert connection.status.information.event_bytes == 65_536


class Bucket:
    """Takes `burst` events at once and `per_s` a second after that, as relays do."""

    def __init__(self, per_s, burst):
        self.per_s, self.burst = per_s, burst
        self.level, self.at = float(burst), time.monotonic()

    def __call__(self, relay, socket, message):
        now = time.monotonic()
        self.level = min(self.burst, self.level + (now - self.at) * self.per_s)
        self.at = now
        if message[0] != "EVENT":
            return []
        if self.level < 1:
            return [["OK", message[1]["id"], False, "rate-limited: slow down"]]
        self.level -= 1
        return [["OK", message[1]["id"], True, ""]]


async def test_a_burst_beyond_a_relays_rate_is_paced_and_nothing_is_lost():
    async with ScriptedRelay(Bucket(per_s=20, burst=10)) as relay, connected(relay) as connection:
        events = [note(str(n)) for n in range(70)]
        began = time.monotonic()
        await asyncio.gather(*(connection.publish(event, timeout=30) for event in events))
        took, sent = time.monotonic() - began, len(relay.of("EVENT"))
        # Sixty at 20 a second are three seconds; and few are sent in vain.
        assert 2.5 < took < 15
        assert sent < 4 * len(events)


async def test_events_published_meanwhile_wait_behind_those_that_were_turned_away():
    async with ScriptedRelay(Bucket(per_s=5, burst=1)) as relay, connected(relay) as connection:
        early = [note(f"early {n}") for n in range(4)]
        publishing = [asyncio.create_task(connection.publish(event, timeout=30)) for event in early]
        await until(lambda: len(connection._publications._pacer._held) == 3)
        late = note("late")
        await connection.publish(late, timeout=30)
        await asyncio.gather(*publishing)
        assert [message[1]["id"] for message in relay.of("EVENT")].index(late.id) > 5


async def test_what_is_to_go_once_hears_at_once_that_the_relay_is_too_fast_and_is_not_sent_again():
    limited, more = [KEY.sign(EventDraft(1, text)) for text in ("limited", "more")]

    def slow(relay, socket, message):
        if message[0] != "EVENT":
            return []
        first = message[1]["id"] == limited.id and len(relay.of("EVENT")) == 1
        return [["OK", message[1]["id"], not first, "rate-limited: slow down" if first else ""]]

    async with ScriptedRelay(slow) as relay:
        connection = RelayConnection(relay.url)
        connection.start()
        try:
            assert await connection.wait_open(10)
            with pytest.raises(RateLimitedError, match="slow down"):
                await connection.publish(limited, timeout=60, once=True)
            # Nor is another one, for as long as that relay has its pause.
            with pytest.raises(RateLimitedError, match="slow down"):
                await connection.publish(more, timeout=60, once=True)
            # Whoever waits for this relay does so behind it.
            assert (await connection.publish(more, timeout=60)).accepted
            assert [message[1]["id"] for message in relay.of("EVENT")] == [limited.id, more.id]
        finally:
            await connection.close()


async def test_who_waited_in_vain_for_a_relay_that_said_rate_limited_hears_that_also_behind_another(monkeypatch):
    def never(relay, socket, message):
        return [["OK", message[1]["id"], False, "rate-limited: slow down"]] if message[0] == "EVENT" else []

    async with ScriptedRelay(never) as relay, connected(relay) as connection:
        first = asyncio.create_task(connection.publish(note("first"), timeout=5))
        await until(lambda: connection._publications._slowed)
        behind = asyncio.create_task(connection.publish(note("behind it"), timeout=5))
        await asyncio.sleep(0)
        pass_time(monkeypatch, 5)
        for told in (behind, first):
            with pytest.raises(RelayError, match="refused an event: rate-limited: slow down"):
                await told


async def test_an_event_that_nobody_waits_for_any_more_does_not_hold_up_the_others():
    async with ScriptedRelay(Bucket(per_s=2, burst=1)) as relay, connected(relay) as connection:
        await connection.publish(note("first"))
        with pytest.raises(RelayError):
            await connection.publish(note("given up"), timeout=0.2)
        assert (await connection.publish(note("third"), timeout=10)).accepted


async def test_a_fault_of_ours_in_what_a_relay_says_of_its_limits_is_told(caplog):
    logging.getLogger("pylon").propagate = True

    async def learn(_url):
        raise ZeroDivisionError

    async with ScriptedRelay(polite) as relay:
        connection = RelayConnection(relay.url, backoff=QUICK, learn=learn)
        connection.start()
        assert await connection.wait_open(10)
        await connection.close()
    assert "ZeroDivisionError" in caplog.text
