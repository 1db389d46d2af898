"""Which copies of an event count."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from pylon.nostr.copies import Copies
from tests.nostr.scripted import ScriptedRelay
from tests.nostr.test_pool import NOTES, note, pooled, relay_silence, serving

RELAYS = ["ws://a", "ws://b", "ws://c"]
comes = st.tuples(st.sampled_from(["1", "2"]), st.sampled_from(RELAYS), st.floats(0, 3))


@given(st.lists(comes, max_size=30))
def test_a_copy_counts_once_a_relay_late_and_never_where_its_event_came_from(history):
    copies, now = Copies(2.0), 0.0
    first: dict[str, tuple[float, str]] = {}
    counted: set[tuple[str, str]] = set()
    came: set[tuple[str, str]] = set()
    for event, relay, waits in history:
        now += waits
        if event not in first:
            assert not copies.counts(event, relay, now)
            copies.first(event, relay, now)
            first[event] = (now, relay)
        else:
            late = now - first[event][0] >= 2.0
            assert copies.counts(event, relay, now) is (late and (event, relay) not in came)
            counted.add((event, relay))
        came.add((event, relay))


def test_what_came_longest_ago_is_forgotten():
    copies = Copies(0.0, capacity=2)
    for event in ("1", "2", "3"):
        copies.first(event, "ws://a", 0.0)
    assert [copies.counts(event, "ws://b", 1.0) for event in ("1", "2", "3")] == [False, True, True]


async def test_whoever_asks_for_copies_is_handed_what_another_relay_brings_later_and_nobody_else_is():
    event = note("twice")
    async with ScriptedRelay(serving(event.to_dict())) as a, ScriptedRelay(serving()) as b, pooled(a, b) as pool:
        plain, answers = pool.subscribe(lambda: NOTES), pool.subscribe(lambda: NOTES, copies=Copies(0.0))
        for subscription in (plain, answers):
            assert (await asyncio.wait_for(anext(subscription), 10)).relay == a.url
        names = [message[1] for message in b.of("REQ")]
        for content in ("a forged one", "twice"):
            for name in names:
                await b.say(["EVENT", name, {**event.to_dict(), "content": content}])
        received = await asyncio.wait_for(anext(answers), 10)
        assert (received.event, received.relay) == (event, b.url)
        await relay_silence(plain)
        await relay_silence(answers)
