import asyncio
import gc
import logging
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from pylon.errors import NotAcknowledgedError, RelayError
from pylon.nostr import messages as m
from pylon.nostr.client import authentication, subscriptions
from pylon.nostr.client import connection as module
from pylon.nostr.client.authentication import CHALLENGE_SECONDS
from pylon.nostr.client.backoff import SOON, Backoff
from pylon.nostr.client.connection import RelayConnection
from pylon.nostr.client.log_limit import BURST
from pylon.nostr.client.nip11 import RelayInformation
from pylon.nostr.client.subscriptions import Subscriptions
from pylon.nostr.event import Event, EventDraft
from pylon.nostr.filter import Filter
from pylon.nostr.keys import SecretKey
from tests.nostr.scripted import ScriptedRelay, polite
from tests.waiting import pass_time, until

QUICK = Backoff(first=0.02, most=0.05)
KEY = SecretKey(bytes(31) + b"\x07")
NOTES = (Filter(kinds=frozenset({1})),)


def note(text: str = "hello") -> Event:
    return KEY.sign(EventDraft(1, text))


@asynccontextmanager
async def connected(relay: ScriptedRelay, secret: SecretKey | None = None):
    connection = RelayConnection(relay.url, secret=secret, backoff=QUICK)
    connection.start()
    try:
        assert await connection.wait_open(10)
        yield connection
    finally:
        await connection.close()


async def test_publish_returns_when_the_relay_says_ok():
    async with ScriptedRelay() as relay, connected(relay) as connection:
        event = note()
        assert (await connection.publish(event)).event_id == event.id
        assert relay.of("EVENT")[0][1]["id"] == event.id


async def test_a_refused_event_raises_with_the_relays_reason():
    def refuse(relay, socket, message):
        return [["OK", message[1]["id"], False, "blocked: not you"]]

    async with ScriptedRelay(refuse) as relay, connected(relay) as connection:
        with pytest.raises(RelayError, match="blocked: not you"):
            await connection.publish(note())


async def test_an_event_the_relay_has_already_counts_as_published():
    def duplicate(relay, socket, message):
        return [["OK", message[1]["id"], False, "duplicate: have it"]]

    async with ScriptedRelay(duplicate) as relay, connected(relay) as connection:
        assert (await connection.publish(note())).accepted


async def test_a_silent_relay_is_given_up_after_the_timeout():
    async with ScriptedRelay(lambda *_: []) as relay, connected(relay) as connection:
        with pytest.raises(RelayError, match="did not acknowledge"):
            await connection.publish(note(), timeout=0.1)


async def test_a_relay_that_reads_nothing_keeps_nobody_beyond_the_timeout():
    async with ScriptedRelay() as relay, connected(relay) as connection:
        await relay.until(lambda: relay.sockets)
        relay.sockets[0].transport.pause_reading()
        async with asyncio.timeout(20):
            events = [note(f"{number} " + "x" * 100_000) for number in range(100)]
            told = await asyncio.gather(*(connection.publish(e, timeout=0.3) for e in events), return_exceptions=True)
        assert any(isinstance(one, RelayError) for one in told)
        relay.sockets[0].transport.resume_reading()


async def test_of_two_who_wait_for_one_event_each_hears_that_nothing_came():
    async with ScriptedRelay(lambda *_: []) as relay, connected(relay) as connection:
        event = note()
        ends = await asyncio.gather(
            connection.publish(event, timeout=0.1), connection.publish(event, timeout=0.2), return_exceptions=True
        )
        assert [type(end) for end in ends] == [NotAcknowledgedError] * 2


async def test_one_who_gives_up_early_does_not_end_the_wait_of_another():
    async with ScriptedRelay(lambda *_: []) as relay, connected(relay) as connection:
        event = note()
        patient = asyncio.create_task(connection.publish(event, timeout=10))
        with pytest.raises(RelayError, match="did not acknowledge"):
            await connection.publish(event, timeout=0.05)
        await relay.say(["OK", event.id, True, ""])
        assert (await patient).accepted


async def test_what_was_not_acknowledged_is_sent_again_after_a_reconnection():
    def drop_first(relay, socket, message):
        if relay.connections == 1:
            socket.transport.abort()
            return []
        return polite(relay, socket, message)

    async with ScriptedRelay(drop_first) as relay, connected(relay) as connection:
        event = note()
        await connection.publish(event, timeout=10)
        assert [message[1]["id"] for message in relay.of("EVENT")] == [event.id, event.id]
        assert connection.status.reconnects == 1


class Recorded(Backoff):
    def __init__(self, seconds=0.01):
        super().__init__(first=seconds)
        object.__setattr__(self, "failures", [])

    def delay(self, attempt, rng):
        self.failures.append(attempt)
        return self.first


async def test_a_relay_that_accepts_and_hangs_up_is_asked_later_each_time_and_one_that_answers_soon():
    hangs_up = True

    def answer(relay, socket, message):
        if message[0] == "REQ":
            socket.transport.abort() if hangs_up else None
        return polite(relay, socket, message)

    recorded = Recorded()
    async with ScriptedRelay(answer) as relay:
        connection = RelayConnection(relay.url, backoff=recorded)
        connection.subscribe(lambda: NOTES, lambda _: None)
        connection.start()
        await relay.until(lambda: relay.connections > 5)
        hangs_up = False
        assert (await connection.publish(note(), timeout=10)).accepted
        failed = len(recorded.failures)
        assert recorded.failures == list(range(1, failed + 1)) and failed > 4
        relay.sockets[-1].transport.abort()
        await relay.until(lambda: len(recorded.failures) > failed)
        assert recorded.failures[failed] == SOON
        await connection.close()


async def test_a_relay_that_was_away_for_long_is_tried_at_once_when_somebody_waits_for_it(monkeypatch):
    monkeypatch.setattr(module, "WANTED_SECONDS", 0.01)
    recorded = Recorded(60.0)
    async with ScriptedRelay() as relay:
        # To have its port.
        await relay.down()
        connection = RelayConnection(relay.url, backoff=recorded)
        connection.start()
        # Nobody waits for it now: one that is away for days is not tried a hundred times a second.
        await until(lambda: recorded.failures)
        assert not await connection.wait_open(0.1)
        tried = len(recorded.failures)
        await asyncio.sleep(0.1)
        assert 1 < tried <= len(recorded.failures) <= tried + 1
        await relay.up()
        assert await connection.wait_open(10)
        await connection.close()


@asynccontextmanager
async def away(share: float, monkeypatch):
    """A connection to a relay that stays away, and the attempts so far."""
    monkeypatch.setattr(module, "WANTED_SECONDS", 0.001)
    monkeypatch.setattr(module, "WANTED_SHARE", share)
    recorded = Recorded(60.0)
    async with ScriptedRelay() as relay:
        # To have its port.
        await relay.down()
        connection = RelayConnection(relay.url, backoff=recorded)
        connection.start()
        try:
            yield connection, recorded.failures
        finally:
            await connection.close()


async def test_a_relay_that_stays_away_is_tried_ever_less_often_in_a_long_wait(monkeypatch):
    async with away(0.1, monkeypatch) as (connection, attempts):
        assert not await connection.wait_open(1.0)
        # Once each time that the wait has grown by a tenth.
        assert 5 < len(attempts) < 100


async def test_a_relay_is_tried_soon_for_who_begins_to_wait_beside_others_that_have_waited_for_long(monkeypatch):
    async with away(1e6, monkeypatch) as (connection, attempts):
        long = asyncio.create_task(connection.wait_open(60))
        await until(lambda: attempts)
        tried = len(attempts)
        assert not await connection.wait_open(0.1)
        assert len(attempts) > tried and not long.done()
        long.cancel()


async def test_what_is_to_go_once_fails_with_its_connection_and_is_not_sent_again():
    def drop_first(relay, socket, message):
        if relay.connections == 1:
            socket.transport.abort()
            return []
        return polite(relay, socket, message)

    async with ScriptedRelay(drop_first) as relay, connected(relay) as connection:
        patient, hasty = note("patient"), note("hasty")
        waits = asyncio.create_task(connection.publish(patient, timeout=10))
        with pytest.raises(RelayError, match="was lost before it answered"):
            await connection.publish(hasty, timeout=10, once=True)
        with pytest.raises(RelayError, match="is not connected"):
            await connection.publish(hasty, timeout=10, once=True)
        assert (await waits).accepted
        assert (await connection.publish(hasty, timeout=10, once=True)).accepted
        assert [message[1]["id"] for message in relay.of("EVENT")].count(hasty.id) <= 2


async def test_a_rate_limited_event_is_sent_again_later():
    def second_time(relay, socket, message):
        accepted = len(relay.of("EVENT")) > 1
        return [["OK", message[1]["id"], accepted, "" if accepted else "rate-limited: slow down"]]

    async with ScriptedRelay(second_time) as relay, connected(relay) as connection:
        assert (await connection.publish(note(), timeout=10)).accepted
        assert len(relay.of("EVENT")) == 2


async def test_subscriptions_come_back_after_a_reconnection_with_filters_asked_anew():
    since = iter(range(100))
    async with ScriptedRelay() as relay, connected(relay) as connection:
        connection.subscribe(lambda: (Filter(since=next(since)),), asyncio.Queue().put)
        await relay.until(lambda: len(relay.of("REQ")) == 1)
        await relay.down()
        await relay.up()
        await relay.until(lambda: len(relay.of("REQ")) == 2)
        assert [message[2] for message in relay.of("REQ")] == [{"since": 0}, {"since": 1}]
        assert relay.of("REQ")[0][1] == relay.of("REQ")[1][1]


async def test_a_subscription_closed_by_the_relay_is_asked_for_again():
    def close_first(relay, socket, message):
        if message[0] == "REQ":
            first = len(relay.of("REQ")) == 1
            return [["CLOSED", message[1], "error: busy"] if first else ["EOSE", message[1]]]
        return []

    async with ScriptedRelay(close_first) as relay, connected(relay) as connection:
        queue: asyncio.Queue[Event | m.Eose] = asyncio.Queue()
        connection.subscribe(lambda: NOTES, queue.put)
        await until(lambda: connection.refusal == "error: busy")
        assert isinstance(await asyncio.wait_for(queue.get(), 10), m.Eose)
        assert len(relay.of("REQ")) == 2 and connection.refusal == ""


async def test_the_log_tells_once_why_a_relay_closes_all_that_it_is_asked(caplog):
    def close(relay, socket, message):
        return [["CLOSED", message[1], "restricted: members only"]] if message[0] == "REQ" else []

    async with ScriptedRelay(close) as relay, connected(relay) as connection:
        for _ in range(2):
            connection.subscribe(lambda: NOTES, asyncio.Queue().put)
        await relay.until(lambda: len(relay.of("REQ")) >= 4)
    told = [record for record in caplog.records if record.getMessage() == "relay closed a subscription"]
    assert [record.levelname for record in told if record.levelno >= logging.INFO] == ["WARNING"]


async def test_events_and_end_of_stored_events_arrive_in_order():
    event = note()

    def one(relay, socket, message):
        return [["EVENT", message[1], event.to_dict()], ["EOSE", message[1]]]

    async with ScriptedRelay(one) as relay, connected(relay) as connection:
        queue: asyncio.Queue[Event | m.Eose] = asyncio.Queue()
        connection.subscribe(lambda: NOTES, queue.put)
        assert await asyncio.wait_for(queue.get(), 10) == event
        assert isinstance(await asyncio.wait_for(queue.get(), 10), m.Eose)


async def test_a_fault_in_what_takes_events_is_told_and_leaves_the_connection_to_be_made_anew(caplog):
    def one(relay, socket, message):
        return [["EVENT", message[1], note().to_dict()]]

    def fault(item: Event | m.Eose) -> None:
        raise LookupError("a fault of ours")

    async with ScriptedRelay(one) as relay, connected(relay) as connection:
        name = connection.subscribe(lambda: NOTES, fault)
        await relay.until(lambda: relay.connections == 2)
        assert "could not be processed" in caplog.text
        connection.unsubscribe(name)
        relay.answer = polite
        assert (await connection.publish(note("after"), timeout=10)).accepted


async def test_a_query_ends_at_the_end_of_stored_events_and_closes_its_subscription():
    event = note()

    def one(relay, socket, message):
        return [["EVENT", message[1], event.to_dict()], ["EOSE", message[1]]] if message[0] == "REQ" else []

    async with ScriptedRelay(one) as relay, connected(relay) as connection:
        assert await connection.query(NOTES) == [event]
        await relay.until(lambda: relay.of("CLOSE"))


async def test_a_query_that_is_not_finished_raises():
    async with ScriptedRelay(lambda *_: []) as relay, connected(relay) as connection:
        with pytest.raises(RelayError, match="did not answer a query"):
            await connection.query(NOTES, timeout=0.1)


def wants_auth(relay, socket, message):
    """Lets nobody do anything before the challenge is answered."""
    known = socket in getattr(relay, "known", [])
    match message:
        case ["AUTH", event]:
            relay.known = [*getattr(relay, "known", []), socket]
            return [["OK", event["id"], True, ""]]
        case ["EVENT", event] if not known:
            return [["OK", event["id"], False, "auth-required: who are you?"]]
        case ["REQ", name, *_] if not known:
            return [["CLOSED", name, "auth-required: who are you?"]]
    return polite(relay, socket, message)


async def test_a_challenge_is_answered_and_what_waited_for_it_is_done():
    async with ScriptedRelay(wants_auth, ["AUTH", "riddle"]) as relay, connected(relay, KEY) as connection:
        queue: asyncio.Queue[Event | m.Eose] = asyncio.Queue()
        connection.subscribe(lambda: NOTES, queue.put)
        assert isinstance(await asyncio.wait_for(queue.get(), 10), m.Eose)
        assert (await connection.publish(note(), timeout=10)).accepted
        answer = relay.of("AUTH")[0][1]
        assert answer["kind"] == 22242
        assert ["challenge", "riddle"] in answer["tags"]


async def test_what_was_refused_before_the_challenge_came_is_asked_for_and_sent_again_after_it():
    def asks_late(relay, socket, message):
        refused = wants_auth(relay, socket, message)
        # The challenge comes only now that somebody wants something.
        late = message[0] == "EVENT" and refused[0][2] is False
        return [*refused, ["AUTH", "riddle"]] if late else refused

    async with ScriptedRelay(asks_late) as relay, connected(relay, KEY) as connection:
        queue = asyncio.Queue()
        connection.subscribe(lambda: NOTES, queue.put)
        await relay.until(lambda: relay.of("REQ"))
        assert (await connection.publish(note(), timeout=10)).accepted
        assert isinstance(await asyncio.wait_for(queue.get(), 10), m.Eose)
        assert (len(relay.of("REQ")), len(relay.of("EVENT"))) == (2, 2)


async def test_a_relay_that_refuses_our_key_is_given_up_at_once_by_what_is_to_go_once_in_its_words():
    def lets_nobody_in(relay, socket, message):
        match message:
            case ["AUTH", event]:
                return [["OK", event["id"], False, "restricted: members only"]]
            case ["EVENT", event]:
                return [["AUTH", "riddle"], ["OK", event["id"], False, "auth-required: who are you?"]]
        return []

    async with ScriptedRelay(lets_nobody_in) as relay, connected(relay, KEY) as connection, asyncio.timeout(10):
        # The second one when that is known.
        for text in ("first", "second"):
            with pytest.raises(RelayError, match="refused our key: restricted: members only") as refused:
                await connection.publish(note(text), timeout=60, once=True)
            assert not refused.value.may_have_arrived
        with pytest.raises(NotAcknowledgedError, match="refused our key: restricted: members only") as late:
            await connection.publish(note("third"), timeout=0.2)
        assert not late.value.may_have_arrived


async def test_after_a_failure_it_is_known_whether_the_relay_may_have_the_event(monkeypatch):
    async def may_have(connection, text, **options):
        with pytest.raises(RelayError) as failed:
            await connection.publish(note(text), **{"timeout": 0.1, **options})
        return failed.value.may_have_arrived

    async def may_have_been_limited(connection):
        limited = asyncio.create_task(may_have(connection, "limited", timeout=5))
        await until(lambda: connection._publications._slowed)
        pass_time(monkeypatch, 5)
        return await limited

    said = iter([[], ["OK", False, "blocked: no"], ["OK", False, "rate-limited: slow down"]])

    def script(relay, socket, message):
        words = next(said, "hang up")
        if words == "hang up":
            socket.transport.abort()
        return [[words[0], message[1]["id"], *words[1:]]] if words and words != "hang up" else []

    async with ScriptedRelay(script) as relay, connected(relay) as connection:
        silent, refused = [await may_have(connection, "silent"), await may_have(connection, "refused", timeout=10)]
        assert (silent, refused, await may_have_been_limited(connection)) == (True, False, False)
    async with ScriptedRelay(script) as relay, connected(relay) as connection:
        assert await may_have(connection, "lost", timeout=10, once=True)
        await relay.down()
    async with ScriptedRelay(script) as relay:
        gone = RelayConnection(relay.url)
    gone.start()
    try:
        assert not await may_have(gone, "never sent")
        assert not await may_have(gone, "not even tried", once=True)
    finally:
        await gone.close()


async def test_an_answer_that_comes_when_nobody_waits_any_more_is_passed_over():
    async with ScriptedRelay(lambda *_: []) as relay, connected(relay) as connection:
        event = note()
        waiting = asyncio.create_task(connection.publish(event))
        await relay.until(lambda: relay.of("EVENT"))
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await relay.say(["OK", event.id, True, ""])
        relay.answer = polite
        assert (await connection.publish(note("another"))).accepted


async def test_a_query_waits_until_the_relay_knows_who_asks(monkeypatch):
    monkeypatch.setattr(authentication, "CHALLENGE_SECONDS", 30.0)
    event = note()

    def shows_its_parties_alone(relay, socket, message):
        match message:
            case ["AUTH", answer]:
                relay.known = True
                return [["OK", answer["id"], True, ""]]
            case ["REQ", name, *_] if hasattr(relay, "known"):
                return [["EVENT", name, event.to_dict()], ["EOSE", name]]
        return polite(relay, socket, message)

    async with ScriptedRelay(shows_its_parties_alone) as relay, connected(relay, KEY) as connection:
        asked = asyncio.create_task(connection.query(NOTES))
        await asyncio.sleep(0.05)
        await relay.say(["AUTH", "riddle"])
        assert await asked == [event]


async def test_a_query_on_a_new_connection_waits_anew(monkeypatch):
    event, shown = note(), []

    def shows_its_parties_alone(relay, socket, message):
        match message:
            case ["AUTH", answer]:
                shown.append(socket)
                return [["OK", answer["id"], True, ""]]
            case ["REQ", name, *_] if socket in shown:
                return [["EVENT", name, event.to_dict()], ["EOSE", name]]
        return polite(relay, socket, message)

    async with ScriptedRelay(shows_its_parties_alone) as relay:
        # Away for longer than a challenge is waited for, and lost while the first one still was.
        away = Backoff(first=4 * CHALLENGE_SECONDS, most=4 * CHALLENGE_SECONDS)
        connection = RelayConnection(relay.url, secret=KEY, backoff=away)
        connection.start()
        assert await connection.wait_open(10)
        monkeypatch.setattr(authentication, "CHALLENGE_SECONDS", 30.0)
        await relay.down()
        await relay.up()
        await relay.until(lambda: relay.connections == 2)
        assert await connection.wait_open(10)
        asked = asyncio.create_task(connection.query(NOTES))
        await asyncio.sleep(0.05)
        await relay.say(["AUTH", "riddle"])
        assert await asked == [event]
        await connection.close()


async def test_a_query_does_not_wait_for_a_challenge_that_never_comes():
    async with ScriptedRelay() as relay, connected(relay, KEY) as connection:
        assert await connection.query(NOTES, timeout=5) == []


async def test_without_a_key_a_challenge_is_not_answered():
    async with ScriptedRelay(wants_auth, ["AUTH", "riddle"]) as relay, connected(relay) as connection:
        with pytest.raises(RelayError, match="auth-required"):
            await connection.publish(note(), timeout=10)
        assert relay.of("AUTH") == []


@pytest.mark.parametrize("garbage", ["", "{", '["EVENT"]', '["EVENT","q1",{"id":1}]', "[1]", '["OK",1]', "null"])
async def test_garbage_from_a_relay_is_passed_over(garbage):
    async with ScriptedRelay() as relay, connected(relay) as connection:
        await relay.until(lambda: relay.sockets)
        await relay.say(garbage)
        assert (await connection.publish(note())).accepted
        assert relay.connections == 1


async def test_a_frame_beyond_the_limit_ends_the_connection_and_it_comes_back():
    async with ScriptedRelay() as relay, connected(relay) as connection:
        await relay.say('["NOTICE","' + "x" * 3_000_000 + '"]')
        await relay.until(lambda: relay.connections == 2)
        assert (await connection.publish(note(), timeout=10)).accepted


async def test_a_notice_is_kept_for_the_status():
    async with ScriptedRelay() as relay, connected(relay) as connection:
        await relay.say(["NOTICE", "maintenance at noon"])
        await connection.publish(note())
        assert connection.status.notice == "maintenance at noon"


async def test_a_flood_of_notices_or_of_closings_is_a_few_lines_in_the_log(caplog):
    caplog.set_level("INFO", "pylon")

    def floods(relay, socket, message):
        match message:
            case ["REQ", name, *_]:
                closings = [["CLOSED", name, f"error: reason {n}"] for n in range(300)]
                return [*closings, *(["NOTICE", f"notice {n}"] for n in range(300))]
        return polite(relay, socket, message)

    async with ScriptedRelay(floods) as relay, connected(relay) as connection:
        connection.subscribe(lambda: (Filter(),), lambda _: None)
        await relay.until(lambda: relay.of("REQ"))
        await connection.publish(note())
        assert connection.status.notice == "notice 299"
    told = Counter(record.getMessage() for record in caplog.records)
    assert told["relay notice"] == told["relay closed a subscription"] == BURST


async def test_that_a_relay_wanted_to_know_who_we_are_is_no_news_once_it_knows():
    def takes(relay, socket, message):
        match message:
            case ["AUTH", answer]:
                return [["OK", answer["id"], True, ""]]
        return polite(relay, socket, message)

    async with ScriptedRelay(takes) as relay, connected(relay, KEY) as connection:
        for said, left in (("auth-required: some were withheld", ""), ("maintenance at noon", "maintenance at noon")):
            await relay.say(["NOTICE", said])
            await connection.publish(note())
            assert connection.status.notice == said
            await relay.say(["AUTH", said])
            await relay.until(lambda: relay.of("AUTH"))
            await connection.publish(note())
            assert connection.status.notice == left


async def test_that_a_subscription_was_closed_is_no_news_once_it_is_open(monkeypatch):
    monkeypatch.setattr(subscriptions, "RETRY_SECONDS", (5.0,))
    refused: list[str] = []

    def takes(relay, socket, message):
        match message:
            case ["REQ", name, *_] if not refused:
                refused.append(name)
                return [["CLOSED", name, "error: try again"]]
            case ["AUTH", answer]:
                return [["OK", answer["id"], True, ""]]
        return polite(relay, socket, message)

    async with ScriptedRelay(takes) as relay, connected(relay, KEY) as connection:
        eose = asyncio.Event()
        connection.subscribe(lambda: (Filter(),), lambda item: eose.set() if isinstance(item, m.Eose) else None)
        await relay.until(lambda: refused)
        await connection.publish(note())
        assert connection.status.notice == "subscription closed: error: try again"
        pass_time(monkeypatch, 5)
        await asyncio.wait_for(eose.wait(), 10)
        assert connection.status.notice == ""
        await relay.say(["CLOSED", "another", "auth-required: who are you"])
        await connection.publish(note())
        assert "auth-required" in connection.status.notice
        await relay.say(["AUTH", "now tell me"])
        await relay.until(lambda: relay.of("AUTH"))
        await connection.publish(note())
        assert connection.status.notice == ""


async def test_closing_tells_publishers_that_wait():
    async with ScriptedRelay(lambda *_: []) as relay:
        connection = RelayConnection(relay.url, backoff=QUICK)
        connection.start()
        await connection.wait_open(10)
        waiting = asyncio.create_task(connection.publish(note()))
        await relay.until(lambda: relay.of("EVENT"))
        await connection.close()
        with pytest.raises(RelayError, match="was closed"):
            await waiting


async def test_a_publication_that_nobody_waits_for_any_more_ends_in_silence(caplog):
    async with ScriptedRelay(lambda *_: []) as relay:
        connection = RelayConnection(relay.url, backoff=QUICK)
        connection.start()
        await connection.wait_open(10)
        waiting = asyncio.create_task(connection.publish(note()))
        await relay.until(lambda: relay.of("EVENT"))
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await connection.close()
        del connection, waiting
        await asyncio.sleep(0)
        gc.collect()
        assert "never retrieved" not in caplog.text


async def test_an_event_published_twice_at_once_is_sent_once():
    async with ScriptedRelay() as relay, connected(relay) as connection:
        event = note()
        await asyncio.gather(connection.publish(event), connection.publish(event))
        assert len(relay.of("EVENT")) == 1


async def test_what_a_relay_says_of_things_that_are_over_changes_nothing():
    async with ScriptedRelay() as relay, connected(relay) as connection:
        await relay.until(lambda: relay.sockets)
        for message in (
            ["OK", "0" * 64, True, ""],
            ["EVENT", "gone", note().to_dict()],
            ["EOSE", "gone"],
            ["CLOSED", "gone", "error: whatever"],
            ["COUNT", "gone", {"count": 3}],
            ["NEWS", "unheard of"],
        ):
            await relay.say(message)
        connection.unsubscribe("gone")
        assert (await connection.publish(note())).accepted


async def test_a_key_that_the_relay_refuses_is_named_in_the_status():
    def refuse(relay, socket, message):
        return [["OK", message[1]["id"], False, "restricted: not you"]] if message[0] == "AUTH" else []

    async with ScriptedRelay(refuse, ["AUTH", "riddle"]) as relay, connected(relay, KEY) as connection:
        await until(lambda: "restricted" in connection.status.error)


async def test_a_subscription_that_waits_to_be_asked_for_again_can_be_ended(monkeypatch):
    monkeypatch.setattr(subscriptions, "RETRY_SECONDS", (5.0,))

    def close(relay, socket, message):
        return [["CLOSED", message[1], "error: busy"]] if message[0] == "REQ" else polite(relay, socket, message)

    async with ScriptedRelay(close) as relay, connected(relay) as connection:
        # Of two that were closed one after another, the first would be asked for again before the second.
        ended, kept = (connection.subscribe(lambda: NOTES, lambda _: None) for _ in range(2))
        await connection.publish(note())
        connection.unsubscribe(ended)
        pass_time(monkeypatch, 5)
        await relay.until(lambda: [message[1] for message in relay.of("REQ")].count(kept) > 1)
        assert [message[1] for message in relay.of("REQ")].count(ended) == 1


async def test_closing_ends_subscriptions_that_wait_to_be_asked_for_again(monkeypatch):
    monkeypatch.setattr("pylon.nostr.client.subscriptions.RETRY_SECONDS", (0.02,))
    closed, kept = list[bytes](), list[bytes]()
    for sent in (closed, kept):
        subscriptions = Subscriptions("ws://relay", sent.append, RelayInformation, has_key=False)
        subscriptions.refused(subscriptions.subscribe(lambda: NOTES, lambda _: None), "error: busy")
        if sent is closed:
            subscriptions.close()
    await until(lambda: len(kept) > 1)
    assert len(closed) == 1
    subscriptions.close()


async def test_subscribing_before_the_relay_is_there_asks_once_it_is():
    async with ScriptedRelay() as relay:
        connection = RelayConnection(relay.url, backoff=QUICK)
        queue: asyncio.Queue[Event | m.Eose] = asyncio.Queue()
        connection.subscribe(lambda: NOTES, queue.put)
        waiting = asyncio.create_task(connection.publish(note(), timeout=10))
        connection.start()
        assert isinstance(await asyncio.wait_for(queue.get(), 10), m.Eose)
        assert (await waiting).accepted
        assert len(relay.of("REQ")) == 1
        await connection.close()


async def test_whoever_publishes_after_the_close_hears_so():
    async with ScriptedRelay(lambda *_: []) as relay:
        async with connected(relay) as connection:
            waiting = asyncio.create_task(connection.publish(note("before"), timeout=0.1))
            await relay.until(lambda: relay.of("EVENT"))
        with pytest.raises(RelayError):
            await waiting
        with pytest.raises(RelayError, match="closed"):
            await asyncio.wait_for(connection.publish(note("after"), timeout=60), 5)


async def test_a_query_that_a_lost_connection_cut_is_asked_again_when_the_relay_knows_us():
    hidden, known = note("for our eyes"), set()

    def answer(relay, socket, message):
        match message:
            case ["AUTH", event]:
                known.add(socket)
                return [["OK", event["id"], True, ""]]
            case ["REQ", name, *_]:
                if relay.connections == 1:
                    socket.transport.abort()
                    return []
                shown = [["EVENT", name, hidden.to_dict()]] if socket in known else []
                return [*shown, ["EOSE", name]]
        return []

    async with ScriptedRelay(answer, greeting=["AUTH", "who are you"]) as relay, connected(relay, KEY) as connection:
        assert [event.id for event in await connection.query(NOTES)] == [hidden.id]


async def test_a_query_that_a_lost_connection_cut_is_asked_again_without_a_key_too():
    def answer(relay, socket, message):
        if message[0] == "REQ" and relay.connections == 1:
            socket.transport.abort()
            return []
        return polite(relay, socket, message)

    async with ScriptedRelay(answer) as relay, connected(relay) as connection:
        assert await connection.query(NOTES) == []


async def test_a_stream_of_refusals_is_no_stream_of_requests(monkeypatch):
    monkeypatch.setattr(subscriptions, "RETRY_SECONDS", (5.0,))
    async with ScriptedRelay(lambda *_: []) as relay, connected(relay) as connection:
        name = connection.subscribe(lambda: NOTES, lambda _: None)
        await relay.until(lambda: relay.of("REQ"))
        for _ in range(50):
            await relay.say(["CLOSED", name, "error: not now"])
        await relay.say(["NOTICE", "that was all"])
        await until(lambda: connection.status.notice == "that was all")
        pass_time(monkeypatch, 5)
        await relay.until(lambda: len(relay.of("REQ")) > 1)
        await asyncio.sleep(0.1)
        assert len(relay.of("REQ")) == 2


async def test_a_close_in_good_order_says_so():
    async with ScriptedRelay() as relay:
        async with connected(relay):
            await relay.until(lambda: relay.sockets)
            [socket] = relay.sockets
        assert socket.close_code == 1000
