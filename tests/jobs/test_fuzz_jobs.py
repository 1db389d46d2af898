"""Whatever a stranger sends, the readers answer with a value or a `WireError`, never with anything else."""

import base64

import orjson
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pylon.errors import WireError
from pylon.jobs.announcement import parse_announcement
from pylon.jobs.cancel import parse_cancel
from pylon.jobs.feedback import parse_feedback
from pylon.jobs.heartbeat import parse_heartbeat
from pylon.jobs.payload import decompress, load_json
from pylon.jobs.request import parse_request
from pylon.jobs.result import parse_result
from pylon.nostr.event import Event, loads_event
from pylon.text import is_clean

from . import examples as ex

READERS = {
    5: [parse_cancel],
    5050: [lambda e: parse_request(e, ex.PROVIDER_KEYS)],
    5940: [lambda e: parse_request(e, ex.PROVIDER_KEYS)],
    6050: [lambda e: parse_result(e, ex.PROVIDER_KEYS)],
    6940: [lambda e: parse_result(e, ex.PROVIDER_KEYS)],
    7000: [lambda e: parse_feedback(e, ex.PROVIDER_KEYS)],
    11998: [parse_heartbeat],
    31990: [parse_announcement],
}

# Names and values that get past the first checks, so that the later ones are reached.
NAMES = """
e p i k d v a bid topup param output status amount account account-seen model usage timing finish offset price network
relays client encrypted encoding expiration request salt
"""
VALUES = """
0 -1 1 1e3 nan text json json_schema true error partial busy zstd content prompt pylon/1 stop {} [] ٣ ² wss://x
"""
FIELDS = "text tags name about slots slots_free queue_s models paused price_version loading"
_names = st.sampled_from(NAMES.split())
_fields = st.sampled_from(FIELDS.split())
_params = st.sampled_from([*ex.PARAMETERS.__dataclass_fields__, "top-k", "top-p"])
_values = st.text(max_size=30) | st.sampled_from(
    [*VALUES.split(), "", "9" * 40, "\ud800", "\x00", ex.EPOCH, ex.REQUEST_ID, ex.CUSTOMER.public]
)
_tags = st.lists(
    st.one_of(
        st.builds(lambda name, rest: (name, *rest), _names | st.text(max_size=3), st.lists(_values, max_size=6)),
        st.builds(lambda name, rest: ("param", name, *rest), _params, st.lists(_values, max_size=2)),
        st.just(("v", "pylon/1")),
        st.just(("e", ex.REQUEST_ID)),
        st.just(("p", ex.PROVIDER.public)),
    ),
    max_size=12,
).map(tuple)
_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(2**63), 2**64 - 1) | st.text(ex.unicode, max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(ex.unicode, max_size=8) | _fields, inner),
    max_leaves=12,
)
_plain = st.one_of(
    _json,
    st.fixed_dictionaries({"text": st.text(ex.unicode), "tags": _tags.map(list)}),
    _tags.map(list),
    st.dictionaries(_fields, _json),
)


def _dump(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        return b'"\\ud800"'


_plaintexts = st.one_of(
    st.binary(min_size=1, max_size=300),
    _plain.map(_dump),
    _plain.map(lambda value: base64.b64encode(zstandard.compress(_dump(value)))),
    st.binary(max_size=300).map(lambda data: base64.b64encode(zstandard.compress(data)[:-3] + data[:9])),
)
_contents = st.one_of(
    st.text(max_size=200),
    _plain.map(lambda value: _dump(value).decode()),
    _plaintexts.filter(len).map(lambda data: ex.CUSTOMER_KEYS.encrypt(ex.PROVIDER.public, data)),
)
_forms = st.sampled_from([(), (("encrypted",),), (("encrypted",), ("encoding", "zstd"))])
events = st.builds(
    lambda kind, tags, form, content, at: Event(
        ex.REQUEST_ID, ex.CUSTOMER.public, at, kind, (*form, *tags), content, "0" * 128
    ),
    st.sampled_from(sorted(READERS)),
    _tags,
    _forms,
    _contents,
    st.integers(0, 2**53 - 1),
)


@settings(max_examples=500)
@given(events)
def test_no_event_makes_a_reader_raise_anything_else(event):
    for read in READERS[event.kind]:
        try:
            read(event)
        except WireError as error:
            said = str(error)
        else:
            continue
        # The customer is told this: it is short, and nothing in it orders a terminal about.
        assert len(said) < 300
        assert is_clean(said)


@pytest.mark.parametrize("kind", sorted(READERS))
@settings(max_examples=20)
@given(draft=events)
def test_no_reader_takes_another_kind(kind, draft):
    for other, readers in READERS.items():
        if {kind, other} in ({5050, 5940}, {6050, 6940}) or kind == other:
            continue
        for read in readers:
            with pytest.raises(WireError):
                read(Event(draft.id, draft.pubkey, draft.created_at, kind, draft.tags, draft.content, draft.sig))


@given(st.binary(max_size=600) | _plaintexts)
def test_no_bytes_make_the_decompressor_raise_anything_else(data):
    for read in (decompress, load_json, loads_event):
        try:
            read(data)
        except WireError:
            continue
