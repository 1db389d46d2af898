"""A provider's announcement and heartbeat, without a relay."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from pylon import forever
from pylon.clock import SystemClock
from pylon.errors import RelayError
from pylon.inference.engine import ModelInfo
from pylon.inference.service import EngineStatus
from pylon.jobs.announcement import parse_announcement
from pylon.jobs.heartbeat import parse_heartbeat
from pylon.nostr.event import Event
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool import RelayPool
from pylon.provider.presence import Presence
from pylon.provider.settings import ProviderSettings
from tests.manual_clock import ManualClock


class NotedPool(RelayPool):
    """A pool that notes kinds instead of sending events."""

    def __init__(self, state: str) -> None:
        super().__init__(["ws://127.0.0.1:9"])
        self.statuses[0].state = state
        self.kinds: list[int] = []
        self.dates: list[tuple[int, int]] = []
        self.events: list[Event] = []

    async def publish(self, event, **_):
        self.kinds.append(event.kind)
        self.dates.append((event.kind, event.created_at))
        self.events.append(event)
        return self.urls


def presence_of(pool, clock, engine, **settings) -> Presence:
    """That of a provider with one free slot."""
    secret, own = SecretKey.generate(), ProviderSettings(**settings)
    return Presence(
        secret=secret, pool=pool, settings=own, model="m", clock=clock, engine=engine, load=lambda: (1, 0.0, "")
    )


@pytest.mark.parametrize(("state", "kinds"), [("open", [11998, 5]), ("connecting", [])])
async def test_a_provider_that_goes_says_so_only_where_somebody_hears_it(state, kinds):
    pool = NotedPool(state)
    engine = EngineStatus("loading", None, 0, 1, 0, 0.0, 0.0)
    presence = presence_of(pool, SystemClock(), lambda: engine)
    await presence.close()
    assert pool.kinds == kinds


class TrippingPool(NotedPool):
    """A pool over which the second event makes somebody stumble."""

    async def publish(self, event, **options):
        await super().publish(event, **options)
        if len(self.kinds) == 2:
            raise RuntimeError("a bug")
        return self.urls


async def test_a_provider_is_seen_again_after_an_error_of_its_own(monkeypatch):
    monkeypatch.setattr(forever, "REST_S", 0.01)
    pool = TrippingPool("open")
    engine = EngineStatus("loading", None, 0, 1, 0, 0.0, 0.0)
    presence = presence_of(pool, SystemClock(), lambda: engine)
    presence.start()
    async with asyncio.timeout(10):
        while pool.kinds.count(11998) < 3:
            presence.changed()
            await asyncio.sleep(0.01)
    await presence.close()


@pytest.mark.parametrize(("state", "free"), [("loading", 0), ("ready", 1)])
async def test_a_provider_that_is_loading_its_model_tells_which_and_that_no_job_could_start_now(state, free):
    pool, engine = NotedPool("open"), EngineStatus(state, None, 0, 1, 0, 0.0, 0.0)
    presence = presence_of(pool, ManualClock(), lambda: engine)
    presence.start()
    while len(pool.events) < 2:
        await asyncio.sleep(0)
    await presence.close()
    beat = parse_heartbeat(pool.events[1])
    assert (beat.loading, beat.slots_free) == (state == "loading", free)
    assert beat.models == (("m", ""),)


@pytest.mark.parametrize(
    ("of_model", "of_owner", "longest"), [(12, 4_096, 12), (0, 4_096, 4_096), (12, 5, 5), (0, 10**12, 1_000_000)]
)
async def test_the_longest_answer_that_is_given_here_is_announced(of_model, of_owner, longest):
    pool, model = NotedPool("open"), ModelInfo("m", "", "", 1, "instant", of_model)
    engine = EngineStatus("ready", model, 0, 1, 0, 0.0, 0.0)
    presence = presence_of(pool, ManualClock(), lambda: engine, max_tokens=of_owner)
    presence.start()
    while not pool.events:
        await asyncio.sleep(0)
    await presence.close()
    [offered] = parse_announcement(pool.events[0]).models
    assert offered.max_completion_tokens == longest


async def test_a_start_two_seconds_after_another_is_announced_later_than_that_was_withdrawn():
    """Relays keep refusing what is dated at the withdrawal or before it (NIP-09)."""
    pool, clock = NotedPool("open"), ManualClock(wall=1_000.0)
    engine = [EngineStatus("loading", None, 0, 1, 0, 0.0, 0.0)]
    presence = presence_of(pool, clock, lambda: engine[0])
    presence.start()
    for beats in range(1, 9):
        while pool.kinds.count(11998) < beats:
            await asyncio.sleep(0)
        engine[0] = EngineStatus("ready", ModelInfo("m", "", "", 1, "instant"), 0, 1, 0, 0.0, 0.0)
        presence.changed()
    await presence.close()
    announced = [date for kind, date in pool.dates if kind == 31990]
    assert announced == [1_000, 1_001]
    assert dict(pool.dates)[5] == 1_001, "it holds for both, and for nothing after them"


class StrictPool(NotedPool):
    """A relay as they are set: nothing from far ahead, and of what is replaceable nothing older than what it has."""

    def __init__(self, now: int) -> None:
        super().__init__("open")
        self.now = now
        self.newest: dict[int, int] = {}
        self.refused: list[int] = []

    async def publish(self, event, **options):
        if event.created_at > self.now + 900:
            self.refused.append(event.kind)
            raise RelayError("refused an event: invalid: created_at is more than 900 s ahead of this relay's clock")
        if event.created_at <= self.newest.get(event.kind, 0):
            self.refused.append(event.kind)
            raise RelayError("refused an event: duplicate: have a newer one")
        self.newest[event.kind] = event.created_at
        return await super().publish(event, **options)


@asynccontextmanager
async def seen(pool: StrictPool, clock: ManualClock):
    """A presence; what it yields has one more heartbeat go out, and then lets its time pass here and at the relay."""
    model = ModelInfo("m", "", "", 1, "instant")
    presence = presence_of(pool, clock, lambda: EngineStatus("ready", model, 0, 1, 0, 0.0, 0.0))
    beats = 0

    async def beat() -> None:
        nonlocal beats
        beats += 1
        presence.changed() if beats > 1 else presence.start()
        async with asyncio.timeout(10):
            while (pool.kinds + pool.refused).count(11998) < beats:
                await asyncio.sleep(0)
        clock.advance(30)
        pool.now += 30

    beat.presence = presence
    try:
        yield beat
    finally:
        await presence.close()


@pytest.mark.parametrize("ahead", [10, 600, 899, 901, 10_800, 10**9])
async def test_a_node_whose_clock_was_ahead_for_a_beat_is_seen_again_with_the_next(ahead):
    pool, clock = StrictPool(100_000), ManualClock(wall=100_000.0)
    async with seen(pool, clock) as beat:
        await beat()
        clock.set_by(ahead)
        await beat()
        clock.set_by(-ahead)
        refused = list(pool.refused)
        for _ in range(40):
            await beat()
        assert pool.refused == refused
    assert pool.refused == refused, "it goes in a way that relays take"


async def test_a_node_that_started_with_a_clock_ahead_is_announced_once_that_is_right():
    pool, clock = StrictPool(100_000), ManualClock(wall=200_000.0)
    async with seen(pool, clock) as beat:
        await beat()
        assert (pool.kinds, pool.refused) == ([], [31990, 11998])
        assert beat.presence.fault.endswith("created_at is more than 900 s ahead of this relay's clock")
        clock.set_by(-100_000)
        await beat()
        assert (pool.kinds, beat.presence.fault) == ([31990, 11998], "")


@pytest.mark.parametrize("moves", [["advance"], ["sleep"], ["set_by", "advance"]])
async def test_an_announcement_is_renewed_daily_whatever_becomes_of_the_clock(moves):
    pool, clock = NotedPool("open"), ManualClock(wall=100_000.0)
    async with seen(pool, clock) as beat:
        pool.now, pool.refused = 0, []
        await beat()
        for move in moves:
            getattr(clock, move)({"set_by": -50_000}.get(move, 86_400))
        await beat()
        await beat()
        assert pool.kinds.count(31990) == 2


async def test_a_clock_that_is_set_renews_no_announcement():
    pool, clock = StrictPool(10**9), ManualClock(wall=100_000.0)
    async with seen(pool, clock) as beat:
        await beat()
        clock.set_by(10**8)
        await beat()
        assert pool.kinds.count(31990) == 1
