"""A clock that is set, or a machine that sleeps or changes its network, under a connection that lasts."""

import asyncio

import pytest

from pylon.nostr.client import connection as module
from pylon.nostr.client.connection import RelayConnection
from pylon.nostr.filter import Filter
from tests.manual_clock import ManualClock
from tests.nostr.scripted import ScriptedRelay, polite
from tests.nostr.test_connection import KEY, QUICK, Recorded
from tests.waiting import until

START = 1_700_000_000
SLACK = 900


def believes_who_is_in_time(now: int):
    """A relay whose clock says that, and which believes and answers nobody whose clock says another."""

    def answer(relay, socket, message):
        match message:
            case ["AUTH", event]:
                good = abs(event["created_at"] - now) <= 600
                socket.let_in = good
                return [["OK", event["id"], good, "" if good else "invalid: created_at is more than 600 s away"]]
            case ["REQ", name, *_] if not getattr(socket, "let_in", False):
                return [["CLOSED", name, "auth-required: who are you?"]]
        return polite(relay, socket, message)

    return answer


class Client:
    """A connection that asks for what is new, as a provider does for jobs."""

    def __init__(self, relay: ScriptedRelay, clock: ManualClock) -> None:
        self.clock = clock
        self.connection = RelayConnection(relay.url, secret=KEY, clock=clock, backoff=QUICK)
        self.connection.subscribe(self._filters, lambda _: None, name="jobs")

    def _filters(self) -> tuple[Filter, ...]:
        return (Filter(kinds=frozenset({1}), since=int(self.clock.wall()) - SLACK),)

    async def __aenter__(self) -> "Client":
        self.connection.start()
        assert await self.connection.wait_open(10)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(module, "CLOCK_SECONDS", 0.01)
    monkeypatch.setattr(module, "WANTED_SECONDS", 0.01)


def sinces(relay: ScriptedRelay) -> list[int]:
    return [message[2]["since"] for message in relay.of("REQ")]


@pytest.mark.parametrize("move", ["set_by", "sleep"])
@pytest.mark.parametrize("seconds", [31, 10_800, -10_800])
async def test_what_is_asked_for_goes_by_the_new_time_after_the_clock_moved(move, seconds):
    if move == "sleep" and seconds < 0:
        return
    async with ScriptedRelay() as relay, Client(relay, ManualClock(START)) as client:
        await relay.until(lambda: relay.of("REQ"))
        getattr(client.clock, move)(seconds)
        await relay.until(lambda: len(relay.of("REQ")) == 2)
        assert sinces(relay) == [START - SLACK, START + seconds - SLACK]
        assert relay.connections == 2


async def test_time_that_passes_and_a_clock_that_is_corrected_end_no_connection():
    async with ScriptedRelay() as relay, Client(relay, ManualClock(START)) as client:
        await relay.until(lambda: relay.of("REQ"))
        client.clock.advance(86_400)
        client.clock.set_by(-29)
        await asyncio.sleep(0.1)
        assert relay.connections == 1
        # Small steps add up.
        client.clock.set_by(-2)
        await relay.until(lambda: relay.connections == 2)


async def test_who_was_not_believed_for_its_clock_is_answered_once_that_is_right():
    clock = ManualClock(START - 10_800)
    relay = ScriptedRelay(believes_who_is_in_time(START), ["AUTH", "riddle"])
    async with relay, Client(relay, clock) as client:
        await relay.until(lambda: relay.of("AUTH"))
        await until(lambda: "refused our key" in client.connection.refusal)
        clock.set_by(10_800)
        await until(
            lambda: not client.connection.refusal and relay.connections >= 2 and (sinces(relay)[-1] == START - SLACK)
        )
        assert client.connection.status.error == ""


async def test_a_relay_that_was_away_is_tried_again_once_the_machine_has_slept():
    relay, clock = ScriptedRelay(), ManualClock(START)
    recorded = Recorded(60.0)
    async with relay:
        # To have its port.
        await relay.down()
        connection = RelayConnection(relay.url, clock=clock, backoff=recorded)
        connection.start()
        await until(lambda: recorded.failures)
        await relay.up()
        clock.sleep(3600)
        await relay.until(lambda: relay.connections)
        relay.sockets[0].transport.abort()
        await until(lambda: len(recorded.failures) == 2)
        # Those from before the sleep do not make it wait longer.
        assert recorded.failures == [1, 1]
        await connection.close()


async def test_in_another_network_the_relay_is_connected_to_anew(monkeypatch):
    async with ScriptedRelay() as relay, Client(relay, ManualClock(START)) as client:
        await asyncio.sleep(0.1)
        assert relay.connections == 1
        old = relay.sockets[0].remote_address
        monkeypatch.setattr(module, "is_still_ours", lambda address: address != old)
        await relay.until(lambda: relay.connections == 2)
        assert "another network address" in client.connection.status.error
