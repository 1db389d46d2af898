"""A long stored answer is read from the file in pages, by number and by size."""

from relay_peer import note, peer

from pylon.relay.paging import PAGE_BYTES, PAGE_EVENTS, pages
from pylon.relay.server import RelayServer
from pylon.relay.store import EventStore


def test_a_page_has_no_more_events_and_no_more_bytes_than_it_may():
    assert list(pages({})) == []
    small = dict.fromkeys(range(2 * PAGE_EVENTS + 1), 1)
    assert [len(page) for page in pages(small)] == [PAGE_EVENTS, PAGE_EVENTS, 1]
    half = PAGE_BYTES // 2
    assert list(pages({5: half, 3: half, 9: 1, 4: half, 1: half})) == [[5, 3], [9, 4], [1]]


def test_an_event_that_is_larger_than_a_page_has_one_of_its_own():
    assert list(pages({1: 1, 2: PAGE_BYTES + 1, 3: 1})) == [[1], [2], [3]]


async def test_of_large_stored_events_few_are_in_memory_at_once_and_all_come_in_order(monkeypatch):
    loaded, load = list[int](), EventStore.load

    async def watched(self, numbers):
        raw = await load(self, numbers)
        loaded.append(sum(map(len, raw)))
        return raw

    monkeypatch.setattr(EventStore, "load", watched)
    events = [note(content=f"{n}" + "x" * 60_000, created_at=1_000 + n) for n in range(40)]
    async with RelayServer() as relay, peer(relay) as client:
        for event in events:
            assert (await client.publish(event))[0]
        assert await client.fetch({"kinds": [1]}) == [event.id for event in reversed(events)]
    assert max(loaded) <= PAGE_BYTES
    assert sum(loaded) == sum(len(event.to_json()) for event in events)
