"""What is published until a relay has it, and what is given up."""

import asyncio

import pytest

from pylon.errors import RelayError
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey
from pylon.provider import outbox as module
from pylon.provider.outbox import Letter, Outbox

KEY = SecretKey(bytes(31) + b"\x07")


class Pool:
    """A stand-in for relays that take nothing for a while."""

    urls = ("ws://near", "ws://far")

    def __init__(self, refusals: int) -> None:
        self.refusals, self.asked = refusals, []

    async def publish(self, event, relays=None):
        self.asked.append(relays)
        if len(self.asked) <= self.refusals:
            raise RelayError("no")


class Clock:
    """An hour passes each time that somebody looks."""

    now = 0.0

    def wall(self) -> float:
        self.now += 3_600
        return self.now


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(module, "RETRY_S", (0.0,))


def event(expires_at: int | None):
    tags = () if expires_at is None else (("expiration", str(expires_at)),)
    return KEY.sign(EventDraft(6940, "an answer", tags, created_at=1))


async def carried(pool: Pool, letter_of, **terms) -> tuple[bool, list[bool]]:
    heard: list[bool] = []
    outbox = Outbox(pool, Clock().wall)
    async with asyncio.timeout(10):
        published = await outbox.carry(Letter(letter_of, "ws://near", heard.append, **terms))
    return published, heard


async def test_what_has_no_end_is_published_until_a_relay_has_it_first_where_its_request_came_from():
    pool = Pool(refusals=20)
    assert await carried(pool, event(None)) == (True, [True])
    assert pool.asked == [["ws://near"]] + [None] * 20


async def test_what_has_expired_is_given_up_however_long_its_letter_would_last():
    # It is tried at one, two and three o'clock.
    for terms in ({}, {"give_up_at": 1e9}):
        pool = Pool(refusals=1_000)
        assert await carried(pool, event(4 * 3_600), **terms) == (False, [False])
        assert len(pool.asked) == 3
    assert await carried(Pool(refusals=2), event(4 * 3_600)) == (True, [True])


async def test_a_letter_that_is_worth_less_than_its_event_is_let_go_before_that_expires():
    pool = Pool(refusals=1_000)
    assert await carried(pool, event(9 * 3_600), give_up_at=3 * 3_600.0) == (False, [False])
    assert len(pool.asked) == 2


async def test_the_first_relay_is_no_other_than_one_of_ours():
    pool = Pool(refusals=0)
    pool.urls = ("ws://far",)
    assert (await carried(pool, event(None)))[0]
    assert pool.asked == [None]
