"""Which relays publications go over, and how long they are waited for: relays that are silent for as long as told."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

from pylon.errors import NotAcknowledgedError, RelayError
from pylon.nostr.client.relay_status import RelayStatus
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey
from pylon.provider.outbox_relays import AT_ONCE, HEAD_START_S, IN_A_ROW, PATIENCE_S, OutboxRelays

KEY = SecretKey(bytes(31) + b"\x07")
GOOD, BAD = "ws://good", "ws://bad"


class Relays:
    """A stand-in for the pool, with seconds of its own: `silent` relays say nothing, `refusing` ones no."""

    def __init__(self, *urls: str) -> None:
        self.urls = list(urls)
        self.silent: set[str] = set()
        self.refusing: set[str] = set()
        self.down: set[str] = set()
        self.sent: list[str] = []
        self.under_way: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self._now = 0.0
        self._waiting: list[tuple[float, str, asyncio.Future[None]]] = []

    @property
    def statuses(self) -> list[RelayStatus]:
        return [RelayStatus(url, "connecting" if url in self.down else "open") for url in self.urls]

    async def publish(self, event, *, relays, timeout):
        [url] = relays
        self.sent.append(url)
        self.under_way[url] += 1
        self.most[url] = max(self.most[url], self.under_way[url])
        try:
            if url in self.refusing:
                raise RelayError("blocked: not this one")
            if url in self.silent | self.down:
                answer = asyncio.get_running_loop().create_future()
                self._waiting.append((self._now + timeout, url, answer))
                await answer
            return [url]
        finally:
            self.under_way[url] -= 1

    async def passes(self, seconds: float) -> None:
        """Time goes by, and who waited for so long hears that nothing came."""
        self._now += seconds
        due = [answer for until, _, answer in self._waiting if until <= self._now and not answer.done()]
        for answer in due:
            answer.set_exception(NotAcknowledgedError("nothing came"))
        await settled()

    def answer(self, relay: str) -> None:
        """A relay says OK to all that it has."""
        for _, url, answer in self._waiting:
            if url == relay and not answer.done():
                answer.set_result(None)


async def settled() -> None:
    for _ in range(AT_ONCE):
        await asyncio.sleep(0)


def event(number: int = 0):
    return KEY.sign(EventDraft(6940, f"answer {number}", created_at=1))


@asynccontextmanager
async def outbox(relays: Relays):
    carrying = OutboxRelays(relays)
    try:
        yield carrying
    finally:
        await carrying.close()


@asynccontextmanager
async def publications(carrying: OutboxRelays, count: int, near: str):
    tasks = [asyncio.create_task(carrying.first(event(number), [near])) for number in range(count)]
    await settled()
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def done(tasks) -> int:
    return sum(task.done() and task.result() for task in tasks)


async def test_many_publications_for_a_silent_relay_hold_up_none_for_a_good_one():
    relays = Relays(GOOD, BAD)
    relays.silent = {BAD}
    async with outbox(relays) as carrying, publications(carrying, 200, BAD) as waiting, asyncio.timeout(10):
        assert await carrying.first(event(200), [GOOD])
        assert relays.sent.count(GOOD) == 1 and done(waiting) == 0


async def test_publications_for_a_silent_relay_go_over_another_after_its_head_start_those_behind_as_well():
    relays = Relays(GOOD, BAD)
    relays.silent = {BAD}
    async with outbox(relays) as carrying, publications(carrying, 200, BAD) as waiting:
        await relays.passes(HEAD_START_S / 2)
        assert done(waiting) == 0
        await relays.passes(HEAD_START_S / 2)
        assert done(waiting) == 200
        # Known by now: the next one waits for nothing.
        async with asyncio.timeout(10):
            assert await carrying.first(event(200), [BAD])


async def test_what_goes_over_another_relay_at_once_is_tried_at_the_silent_one_all_the_same():
    relays = Relays(GOOD, BAD)
    relays.silent = {BAD}
    async with outbox(relays) as carrying, publications(carrying, IN_A_ROW, BAD), asyncio.timeout(10):
        await relays.passes(HEAD_START_S)
        relays.sent.clear()
        assert await carrying.first(event(200), [BAD])
        assert sorted(relays.sent) == [BAD, GOOD]


async def test_a_relay_that_never_answers_has_so_many_publications_at_once_and_no_more():
    relays = Relays(GOOD, BAD)
    relays.silent = {BAD}
    async with outbox(relays) as carrying, asyncio.timeout(20):
        for turn in range(4):
            async with publications(carrying, 200, BAD) as waiting:
                await relays.passes(HEAD_START_S)
                assert done(waiting) == 200, turn
        # In their places, and beside those that are counted on.
        assert AT_ONCE <= relays.most[BAD] <= 2 * AT_ONCE


async def test_a_relay_that_takes_a_publication_again_is_waited_for_again():
    relays = Relays(GOOD, BAD)
    relays.silent = {BAD}
    async with outbox(relays) as carrying, publications(carrying, IN_A_ROW, BAD) as waiting, asyncio.timeout(10):
        await relays.passes(HEAD_START_S)
        assert done(waiting) == IN_A_ROW
        relays.silent = set()
        assert await carrying.first(event(7), [BAD])
        await settled()
        relays.sent.clear()
        assert await carrying.first(event(8), [BAD])
        assert relays.sent == [BAD]


async def test_a_relay_that_says_no_is_no_silent_one():
    relays = Relays(GOOD, BAD)
    relays.refusing = {BAD}
    async with outbox(relays) as carrying, asyncio.timeout(10):
        for number in range(2 * IN_A_ROW):
            relays.sent.clear()
            assert await carrying.first(event(number), [BAD])
            # The good one is asked when the other has answered, not beside it.
            assert relays.sent[:2] == [BAD, GOOD]


async def test_where_there_is_no_other_the_relay_is_waited_for_as_long_as_all_are():
    relays = Relays(BAD)
    relays.silent = {BAD}
    async with outbox(relays) as carrying, publications(carrying, 1, BAD) as waiting:
        await relays.passes(HEAD_START_S)
        assert not waiting[0].done()
        await relays.passes(PATIENCE_S - HEAD_START_S)
        assert waiting[0].result() is False
        assert relays.sent == [BAD]


async def test_where_no_other_is_connected_a_relay_that_needs_its_time_is_counted_on():
    relays = Relays(BAD, GOOD)
    relays.down, relays.silent = {GOOD}, {BAD}
    async with outbox(relays) as carrying:
        for _ in range(2 * IN_A_ROW):
            async with publications(carrying, 1, BAD) as waiting:
                await relays.passes(HEAD_START_S)
                assert not waiting[0].done()
                relays.answer(BAD)
                await settled()
                assert waiting[0].result()


async def test_where_all_relays_are_silent_publications_wait_for_their_places_there():
    relays = Relays(GOOD, BAD)
    relays.silent = {GOOD, BAD}
    async with outbox(relays) as carrying:
        async with publications(carrying, IN_A_ROW, BAD) as waiting:
            await relays.passes(HEAD_START_S)
            await relays.passes(PATIENCE_S)
            assert [task.result() for task in waiting] == [False] * IN_A_ROW
        async with publications(carrying, 2 * AT_ONCE, BAD) as waiting:
            assert relays.under_way == {GOOD: AT_ONCE, BAD: AT_ONCE}
            assert not any(task.done() for task in waiting)
            relays.silent = set()
            await relays.passes(PATIENCE_S)
            assert done(waiting) == AT_ONCE


async def test_a_publication_that_its_relay_takes_costs_no_task_and_no_timer(monkeypatch):
    relays = Relays(GOOD, BAD)
    loop = asyncio.get_running_loop()
    made: list[object] = []
    async with outbox(relays) as carrying:
        monkeypatch.setattr(loop, "call_at", lambda *args, **_: made.append(args))
        loop.set_task_factory(
            lambda loop, work, **options: made.append(work) or asyncio.Task(work, loop=loop, **options)
        )
        try:
            assert await carrying.first(event(), [GOOD])
        finally:
            loop.set_task_factory(None)
    assert made == [] and relays.sent == [GOOD]
