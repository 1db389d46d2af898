"""A relay that asks who is there: once, anew, or without end."""

import asyncio
import time

import pytest

from pylon.nostr.client import authentication
from tests.nostr.scripted import ScriptedRelay
from tests.nostr.test_connection import KEY, NOTES, connected
from tests.waiting import pass_time, until


def accepts(relay, socket, message):
    """Believes every answer."""
    match message:
        case ["AUTH", event]:
            return [["OK", event["id"], True, ""]]
        case ["REQ", name, *_]:
            return [["EOSE", name]]


def mute(relay, socket, message):
    return []


def answered(relay: ScriptedRelay) -> list[str]:
    """The challenges that were, in order."""
    return [dict(answer["tags"])["challenge"] for _, answer in relay.of("AUTH")]


@pytest.mark.parametrize("answer", [accepts, mute])
async def test_of_challenges_without_end_a_few_are_answered_at_once_and_then_the_newest_in_its_time(
    monkeypatch, answer
):
    monkeypatch.setattr(authentication, "EVERY_SECONDS", 0.5)
    async with ScriptedRelay(answer) as relay, connected(relay, KEY):
        await relay.until(lambda: relay.sockets)
        began = time.monotonic()
        for number in range(300):
            await relay.say(["AUTH", str(number)])
        await relay.until(lambda: "299" in answered(relay))
        assert len(relay.of("AUTH")) <= authentication.BURST + 1 + (time.monotonic() - began) // 0.5
        assert answered(relay)[:3] == ["0", "1", "2"]


async def test_a_relay_that_asks_without_end_holds_up_no_query():
    async with ScriptedRelay() as relay, connected(relay, KEY) as connection:
        await relay.until(lambda: relay.sockets)

        async def ask() -> None:
            for number in range(10_000):
                await relay.say(["AUTH", str(number)])
                await asyncio.sleep(0.001)

        asking = asyncio.create_task(ask())
        await relay.until(lambda: len(answered(relay)) == authentication.BURST)
        assert await connection.query(NOTES, timeout=5.0) == []
        asking.cancel()


async def test_a_challenge_that_is_said_twice_before_its_answer_can_be_there_is_answered_once():
    async with ScriptedRelay(mute) as relay, connected(relay, KEY):
        await relay.until(lambda: relay.sockets)
        await relay.say(["AUTH", "riddle"])
        await relay.say(["AUTH", "riddle"])
        await relay.say(["AUTH", "another"])
        await relay.until(lambda: "another" in answered(relay))
        assert answered(relay) == ["riddle", "another"]


async def test_a_relay_that_asks_anew_is_answered_anew_at_once():
    async with ScriptedRelay(accepts, ["AUTH", "riddle"]) as relay, connected(relay, KEY):
        await relay.until(lambda: answered(relay) == ["riddle"])
        await asyncio.sleep(0.05)
        await relay.say(["AUTH", "another"])
        await relay.until(lambda: answered(relay) == ["riddle", "another"])
        await asyncio.sleep(0.05)
        # Some say the same again when they have forgotten who we are.
        await relay.say(["AUTH", "another"])
        await relay.until(lambda: answered(relay) == ["riddle", "another", "another"])


async def test_a_challenge_that_waits_for_its_time_is_forgotten_with_its_connection(monkeypatch):
    async with ScriptedRelay(accepts) as relay, connected(relay, KEY):
        await relay.until(lambda: relay.sockets)
        for number in range(authentication.BURST + 1):
            await relay.say(["AUTH", str(number)])
        await relay.until(lambda: len(answered(relay)) == authentication.BURST)
        await relay.sockets[0].close()
        await relay.until(lambda: relay.connections == 2 and relay.sockets)
        await relay.say(["AUTH", "of the second"])
        await relay.until(lambda: "of the second" in answered(relay))
        pass_time(monkeypatch, authentication.EVERY_SECONDS)
        await asyncio.sleep(0.1)
        assert answered(relay) == ["0", "1", "2", "of the second"]


async def test_who_is_not_believed_proves_itself_again_on_the_same_connection_until_it_is(monkeypatch):
    monkeypatch.setattr(authentication, "RETRY_SECONDS", (0.05, 0.1))
    monkeypatch.setattr(authentication, "EVERY_SECONDS", 0.05)

    def believes_the_third(relay, socket, message):
        match message:
            case ["AUTH", event]:
                good = len(relay.of("AUTH")) >= 3
                return [["OK", event["id"], good, "" if good else "invalid: not in time"]]
            case ["REQ", name, *_] if len(relay.of("AUTH")) < 3:
                return [["CLOSED", name, "auth-required: who are you?"]]
        return accepts(relay, socket, message)

    async with ScriptedRelay(believes_the_third, ["AUTH", "riddle"]) as relay, connected(relay, KEY) as connection:
        heard: list[object] = []
        connection.subscribe(lambda: NOTES, heard.append)
        await relay.until(lambda: len(relay.of("AUTH")) == 2)
        assert connection.status.error == "the relay refused our key: invalid: not in time"
        await until(lambda: heard)
        assert (connection.status.error, connection.refusal) == ("", "")
        await asyncio.sleep(0.3)
        assert answered(relay) == ["riddle"] * 3
        assert relay.connections == 1
