"""What a batch leaves behind does not depend on how it was cut into transactions."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pylon.nostr.event import Event
from pylon.nostr.filter import Filter
from pylon.relay.queries import Reader
from pylon.relay.retention import Known, Outcome, address, deletions, plan
from pylon.relay.rows import Publication
from pylon.relay.store import EventStore

KEYS = [f"{n:064x}" for n in (1, 2)]
IDS = [f"{n:064x}" for n in range(12)]
ADDRESSES = [f"{kind}:{key}:{d}" for kind, d in ((0, ""), (30_000, "a"), (30_000, "")) for key in KEYS]

tags = st.lists(
    st.one_of(
        st.tuples(st.just("d"), st.sampled_from(["a", ""])),
        st.tuples(st.just("e"), st.sampled_from(IDS)),
        st.tuples(st.just("a"), st.sampled_from(ADDRESSES)),
    ),
    max_size=2,
)
drafts = st.builds(
    Event,
    id=st.just(""),
    pubkey=st.sampled_from(KEYS),
    created_at=st.integers(0, 4),
    kind=st.sampled_from([0, 1, 5, 30_000]),
    tags=tags.map(tuple),
    content=st.just(""),
    sig=st.just(""),
)


def kept_one_by_one(events):
    """The rules of NIP-01 and NIP-09 in the plainest words."""
    kept, requests, outcomes = {}, [], []
    for event in events:
        where = address(event)
        gone = event.kind != 5 and any(
            r.pubkey == event.pubkey and target in (event.id, where) and event.created_at <= until
            for r in requests
            for target, until in deletions(r)
        )
        rivals = [e for e in kept.values() if where is not None and address(e) == where]
        if event.id in kept:
            outcomes.append(Outcome.DUPLICATE)
        elif gone:
            outcomes.append(Outcome.DELETED)
        elif any((-e.created_at, e.id) < (-event.created_at, event.id) for e in rivals):
            outcomes.append(Outcome.SUPERSEDED)
        else:
            outcomes.append(Outcome.STORED)
            for rival in rivals:
                del kept[rival.id]
            kept[event.id] = event
            if event.kind == 5:
                requests.append(event)
                for target, until in deletions(event):
                    for other in list(kept.values()):
                        named = target in (other.id, address(other))
                        if named and other.kind != 5 and other.pubkey == event.pubkey and other.created_at <= until:
                            del kept[other.id]
    return set(kept), outcomes


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(IDS), st.booleans()), max_size=14),
    st.lists(drafts, min_size=len(IDS), max_size=len(IDS)),
)
async def test_batches_of_any_size_leave_what_the_rules_say(order, drafts):
    by_id = {
        id_: Event(id_, d.pubkey, d.created_at, d.kind, d.tags, d.content, d.sig)
        for id_, d in zip(IDS, drafts, strict=True)
    }
    events = [by_id[id_] for id_, _ in order]
    batches, outcomes = [[]], []
    for event, (_, cut) in zip(events, order, strict=True):
        batches[-1].append(Publication(event, b"{}"))
        if cut:
            batches.append([])
    with TemporaryDirectory() as folder:
        store = await EventStore.open(Path(folder) / "relay.db")
        for batch in batches:
            outcomes += [placed.outcome for placed in await store.insert(batch)]
        numbers = await store.find([Filter()], 100, Reader(frozenset(), 0))
        rows = await store._database.fetch_all("SELECT id FROM event")
        await store.close()
    kept, expected = kept_one_by_one(events)
    assert len(numbers) == len(kept)
    assert {row["id"] for row in rows} == kept
    assert outcomes == expected


@pytest.mark.parametrize(
    "value", ["", ":", "0", "x:{key}:", "00:{key}:", "0:{other}:", "999999999:{key}:", "²:{key}:"]
)
def test_an_odd_address_deletes_nothing(value):
    tag = ("a", value.format(key=KEYS[0], other=KEYS[1]))
    assert list(deletions(Event("", KEYS[0], 9, 5, (tag,), "", ""))) == []


@pytest.mark.parametrize("cut", [True, False])
async def test_an_older_version_may_come_back_after_the_newer_one_was_deleted_by_its_id(tmp_path, cut):
    old = Event(IDS[0], KEYS[0], 1, 0, (), "", "")
    new = Event(IDS[1], KEYS[0], 2, 0, (), "", "")
    request = Event(IDS[2], KEYS[0], 3, 5, (("e", new.id),), "", "")
    store = await EventStore.open(tmp_path / "relay.db")
    publications = [Publication(event, b"{}") for event in (new, request, old)]
    batches = [[one] for one in publications] if cut else [publications]
    placed = [place.outcome for batch in batches for place in await store.insert(batch)]
    rows = await store._database.fetch_all("SELECT id FROM event")
    await store.close()
    assert placed == [Outcome.STORED] * 3
    assert {row["id"] for row in rows} == {old.id, request.id}


def test_what_a_batch_deletes_or_replaces_is_no_duplicate_later_in_it():
    gone = Event(IDS[0], KEYS[0], 1, 1, (), "", "")
    request = Event(IDS[1], KEYS[0], 2, 5, (("e", gone.id),), "", "")
    old = Event(IDS[2], KEYS[0], 1, 0, (), "", "")
    new = Event(IDS[3], KEYS[0], 2, 0, (), "", "")
    todo = plan([gone, request, gone, old, new, old, new], Known())
    assert [outcome.value for outcome in todo.outcomes] == [
        "stored",
        "stored",
        "deleted",
        "stored",
        "stored",
        "superseded",
        "duplicate",
    ]
