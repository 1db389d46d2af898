"""What is published until a relay has it, and what is given up."""

import asyncio

import pytest

from pylon.errors import RelayError
from pylon.nostr.client.relay_status import RelayStatus
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey
from pylon.provider import outbox as module
from pylon.provider.outbox import Outbox, Publication
from tests.manual_clock import ManualClock

KEY = SecretKey(bytes(31) + b"\x07")


HOUR = 3_600


class Pool:
    """A stand-in for relays that take nothing the first so many times that all are asked, and need an hour to say so.
    `sets`: seconds by which the machine's clock is set then, by the number of the time."""

    urls = ("ws://near", "ws://far")

    def __init__(self, refusals: int, sets: dict[int, int] | None = None, wall: float = 0.0) -> None:
        self.refusals, self.asked, self.sets = refusals, [], sets or {}
        self.clock = ManualClock(wall)

    @property
    def statuses(self):
        return [RelayStatus(url, "open") for url in self.urls]

    async def publish(self, event, *, relays, timeout):
        [url] = relays
        self.asked.append(url)
        turn = self.asked.count(self.urls[-1]) + (url != self.urls[-1])
        if url == self.urls[-1]:
            self.clock.set_by(self.sets.get(turn, 0))
        if turn <= self.refusals:
            if url == self.urls[-1]:
                self.clock.advance(HOUR)
            raise RelayError("no")
        if len(self.asked) <= self.refusals:
            self.clock.advance(HOUR)
            raise RelayError("no")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(module, "RETRY_S", (0.0,))


def event(expires_at: int | None):
    tags = () if expires_at is None else (("expiration", str(expires_at)),)
    return KEY.sign(EventDraft(6940, "an answer", tags, created_at=1))


async def carried(pool: Pool, publication_of, **terms) -> tuple[bool, list[bool]]:
    heard: list[bool] = []
    outbox = Outbox(pool, pool.clock)
    async with asyncio.timeout(10):
        published = await outbox.publish_and_wait(Publication(publication_of, "ws://near", heard.append, **terms))
    return published, heard


async def test_what_has_no_end_is_published_until_a_relay_has_it_first_where_its_request_came_from():
    pool = Pool(refusals=20)
    assert await carried(pool, event(None)) == (True, [True])
    assert pool.asked[:1] == ["ws://near"]
    everywhere = pool.asked[1:]
    assert all(set(everywhere[at : at + 2]) == set(pool.urls) for at in range(0, len(everywhere), 2))


async def test_what_has_expired_is_given_up_however_long_its_publication_would_last():
    for terms in ({}, {"give_up_after_s": 1e9}):
        pool = Pool(refusals=1_000)
        assert await carried(pool, event(3 * HOUR), **terms) == (False, [False])
        assert pool.asked.count("ws://far") == 3
    assert await carried(Pool(refusals=2), event(3 * HOUR)) == (True, [True])


async def test_a_publication_that_is_worth_less_than_its_event_is_let_go_before_that_expires():
    # However its clock is set meanwhile.
    for sets in ({}, {1: -9 * HOUR}, {1: 90 * HOUR}):
        pool = Pool(refusals=1_000, sets=sets)
        assert await carried(pool, event(9 * HOUR), give_up_after_s=2 * HOUR) == (False, [False])
        assert pool.asked.count("ws://far") == 2


async def test_a_clock_that_is_ahead_for_a_while_drops_nothing_that_was_paid_for():
    pool = Pool(refusals=4, sets={1: 100 * HOUR, 3: -100 * HOUR})
    assert await carried(pool, event(6 * HOUR)) == (True, [True])
    # Nor does one that is not set right until the event has expired.
    pool = Pool(refusals=4, sets={1: 100 * HOUR})
    assert await carried(pool, event(6 * HOUR)) == (True, [True])


async def test_what_is_expired_by_the_clock_of_a_start_is_offered_to_every_relay_once():
    # The clock may be wrong, which relays know.
    for refusals, published in ((1_000, False), (0, True)):
        pool = Pool(refusals, wall=1e9)
        assert await carried(pool, event(3 * HOUR)) == (published, [published])
    pool = Pool(refusals=1_000, wall=1e9)
    assert await carried(pool, event(3 * HOUR)) == (False, [False])
    assert pool.asked == ["ws://near", "ws://near", "ws://far"]


async def test_many_publications_that_a_silent_relay_leaves_without_an_answer_hold_up_none_for_another():
    class Silent(Pool):
        """A stand-in for a relay that says nothing, and one that takes all."""

        async def publish(self, event, *, relays, timeout=15.0):
            if relays == ["ws://far"]:
                await asyncio.Event().wait()
            return await super().publish(event, relays=relays, timeout=timeout)

    outbox = Outbox(Silent(refusals=0), ManualClock())
    async with asyncio.timeout(10):
        for _ in range(200):
            outbox.put(Publication(event(None), "ws://far"))
        await asyncio.sleep(0)
        assert await asyncio.create_task(outbox.publish_and_wait(Publication(event(None), "ws://near")))
        await asyncio.sleep(0)
        assert outbox.waiting == 200
        await outbox.close()


async def test_the_first_relay_is_no_other_than_one_of_ours():
    pool = Pool(refusals=0)
    pool.urls = ("ws://far",)
    assert (await carried(pool, event(None)))[0]
    assert pool.asked == ["ws://far"]


async def test_a_publication_whose_end_cannot_be_handled_is_logged_and_waits_no_more(caplog):
    def fails(published: bool) -> None:
        raise RuntimeError("no end")

    pool = Pool(refusals=0)
    outbox = Outbox(pool, pool.clock)
    publication = Publication(event(None), "ws://near", fails)
    assert await outbox.publish_and_wait(publication), "a relay has it all the same"
    outbox.put(publication)
    assert outbox.waiting == 1
    assert await outbox.wait_empty(10) and outbox.waiting == 0
    assert [record.message for record in caplog.records].count("a publication could not be handled") == 2
