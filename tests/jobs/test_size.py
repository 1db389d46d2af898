import pytest
from hypothesis import given

from pylon.errors import MalformedError
from pylon.jobs.payload import ENCRYPTED, Payload, seal
from pylon.jobs.size import event_bytes, text_bytes
from pylon.nostr.event import EventDraft

from . import examples as ex


@given(ex.st.text(ex.unicode), ex.st.lists(ex.st.lists(ex.st.text(ex.unicode), min_size=1).map(tuple)).map(tuple))
def test_the_size_is_known_before_signing(content, tags):
    draft = EventDraft(1, content, tags, ex.NOW)
    assert event_bytes(draft) == len(ex.CUSTOMER.sign(draft).to_json())


@given(ex.st.text(ex.unicode, max_size=2_000), ex.st.text(ex.unicode, max_size=20))
def test_the_size_of_what_is_sealed_is_known_too(text, tag):
    content, tags = seal(ex.CUSTOMER_KEYS, ex.PROVIDER.public, Payload(text))
    draft = EventDraft(1, content, (*tags, ("x", tag)), ex.NOW)
    assert event_bytes(draft) == len(ex.CUSTOMER.sign(draft).to_json())


def test_an_open_time_is_counted_as_todays():
    assert event_bytes(EventDraft(1)) == event_bytes(EventDraft(1, created_at=ex.NOW))


def test_lone_surrogates_have_no_size():
    for draft in (EventDraft(1, "\ud800"), EventDraft(1, "", (ENCRYPTED, ("x", "\ud800")))):
        with pytest.raises(MalformedError):
            event_bytes(draft)


@pytest.mark.parametrize("text", ["", "plain", "ü", "a\u2028b", "\U0001f577 spider", "x" * 70_000])
def test_the_bytes_of_a_text_are_those_of_its_utf8(text):
    assert text_bytes(text) == len(text.encode())


def test_a_lone_surrogate_in_a_text_counts_as_one_byte():
    assert text_bytes("a\ud800b") == 3
