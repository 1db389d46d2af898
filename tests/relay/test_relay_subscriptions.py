"""The index finds what comparing every filter with every event finds."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.relay.subscriptions import SubscriptionIndex

IDS = [f"{n:064x}" for n in range(4)]
KEYS = [f"{n + 100:064x}" for n in range(3)]
KINDS = [1, 5940, 7000]
VALUES = ["a", "b", *KEYS]


def some(values):
    return st.none() | st.frozensets(st.sampled_from(values), max_size=3)


times = st.integers(0, 5)
filters = st.builds(
    Filter,
    ids=some(IDS),
    authors=some(KEYS),
    kinds=some(KINDS),
    tags=st.dictionaries(st.sampled_from("pet"), st.frozensets(st.sampled_from(VALUES), max_size=3), max_size=2),
    since=st.none() | times,
    until=st.none() | times,
)
tags = st.lists(
    st.tuples(st.sampled_from(["p", "e", "t", "id", "kind"]), st.sampled_from(VALUES)) | st.just(("p",)), max_size=4
)
events = st.builds(
    Event,
    id=st.sampled_from(IDS),
    pubkey=st.sampled_from(KEYS),
    created_at=times,
    kind=st.sampled_from(KINDS),
    tags=tags.map(tuple),
    content=st.just(""),
    sig=st.just(""),
)
steps = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from("xyz"), st.none() | st.lists(filters, min_size=1, max_size=3)),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(steps, st.lists(events, min_size=1, max_size=5))
def test_the_index_matches_as_brute_force_does(steps, events):
    index = SubscriptionIndex()
    model = {}
    for connection, name, filters in steps:
        if filters is None:
            index.remove(connection, name)
            model.pop((connection, name), None)
        else:
            index.add(connection, name, filters)
            model[connection, name] = filters
    assert len(index) == len(model)
    for event in events:
        expected = {entry for entry, filters in model.items() if any(f.matches(event) for f in filters)}
        found = index.match(event)
        assert len(found) == len(set(found))
        assert set(found) == expected


def test_an_empty_index_holds_nothing():
    index = SubscriptionIndex()
    index.add(1, "s", [Filter(kinds=frozenset({1}), tags={"p": frozenset({"a", "b"})})])
    index.remove(1, "s")
    index.remove(1, "never")
    assert len(index) == 0
    assert index._filed == {}
