"""Every value made parses back to the same value, in each form, and no tag breaks a relay's limit."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import WireError
from pylon.jobs.announcement import announcement_draft, parse_announcement, withdrawal_draft
from pylon.jobs.cancel import Cancellation, cancel_draft, parse_cancel
from pylon.jobs.feedback import feedback_draft, parse_feedback
from pylon.jobs.heartbeat import heartbeat_draft, parse_heartbeat
from pylon.jobs.kinds import SCHEMA
from pylon.jobs.request import open_draft, parse_request, private_draft
from pylon.jobs.result import parse_result, result_draft
from pylon.jobs.size import MAX_EVENT_BYTES, MAX_INDEXED_BYTES
from pylon.nostr.event import Event, EventDraft, loads_event, verify
from pylon.nostr.keys import SecretKey

from . import examples as ex


def sent(author: SecretKey, draft: EventDraft) -> Event:
    """The event as the other side gets it, with what holds of every event of ours checked."""
    event = loads_event(author.sign(draft).to_json())
    verify(event)
    assert event.tag("v") == SCHEMA
    assert len(event.to_json()) <= MAX_EVENT_BYTES
    for tag in event.tags:
        if len(tag[0]) == 1:
            assert all(len(value.encode()) <= MAX_INDEXED_BYTES for value in tag), tag[0]
    return event


@given(ex.requests())
def test_a_private_request_survives_the_wire(job):
    event = sent(ex.CUSTOMER, private_draft(job, ex.PROVIDER.public, ex.CUSTOMER_KEYS, created_at=ex.NOW))
    received = parse_request(event, ex.PROVIDER_KEYS)
    assert received.job == job
    assert (received.id, received.customer, received.created_at) == (event.id, ex.CUSTOMER.public, ex.NOW)
    assert (received.private, received.providers) == (True, (ex.PROVIDER.public,))


@given(ex.requests(ex.clean), st.sampled_from([None, ex.PROVIDER.public]))
def test_an_open_request_survives_the_wire(job, provider):
    event = sent(ex.CUSTOMER, open_draft(job, provider, salt="5a", created_at=ex.NOW))
    received = parse_request(event, ex.PROVIDER_KEYS)
    assert received.job == job
    named = () if provider is None else (provider,)
    assert (received.private, received.providers) == (False, named)


def test_the_maximal_request_survives_both_forms():
    private = private_draft(ex.REQUEST, ex.PROVIDER.public, ex.CUSTOMER_KEYS, created_at=ex.NOW)
    public = open_draft(ex.REQUEST, ex.PROVIDER.public, salt="5a", created_at=ex.NOW)
    for draft in (private, public):
        assert parse_request(sent(ex.CUSTOMER, draft), ex.PROVIDER_KEYS).job == ex.REQUEST


@given(ex.feedbacks)
def test_feedback_survives_the_wire(feedback):
    event = sent(ex.PROVIDER, feedback_draft(feedback, ex.PROVIDER_KEYS, created_at=ex.NOW))
    assert parse_feedback(event, ex.CUSTOMER_KEYS) == feedback


@given(ex.results)
def test_a_result_survives_the_wire(result):
    request = ex.plain_request()
    event = sent(ex.PROVIDER, result_draft(result, ex.PROVIDER_KEYS, request=request, created_at=ex.NOW))
    assert parse_result(event, ex.CUSTOMER_KEYS) == result


@given(ex.announcements)
def test_an_announcement_survives_the_wire(announcement):
    event = sent(ex.PROVIDER, announcement_draft(announcement, created_at=ex.NOW))
    assert parse_announcement(event) == announcement


@given(ex.heartbeats)
def test_a_heartbeat_survives_the_wire(heartbeat):
    event = sent(ex.PROVIDER, heartbeat_draft(heartbeat, created_at=ex.NOW))
    assert parse_heartbeat(event) == heartbeat


@given(st.lists(ex.ids, min_size=1, max_size=20).map(tuple))
def test_a_cancellation_survives_the_wire(requests):
    event = sent(ex.CUSTOMER, cancel_draft(requests, 5940, ex.PROVIDER.public, created_at=ex.NOW))
    assert parse_cancel(event) == Cancellation(ex.CUSTOMER.public, requests)


# Whatever a caller puts in: an event that reads back, or a refusal of ours before anything is signed.
anything = st.text(max_size=1_500)


@given(anything, anything, st.booleans())
def test_a_request_of_any_text_is_made_or_refused(text, system, private):
    job = replace(ex.REQUEST, text=text, parameters=replace(ex.PARAMETERS, messages=False, system=system))
    try:
        if private:
            draft = private_draft(job, ex.PROVIDER.public, ex.CUSTOMER_KEYS, created_at=ex.NOW)
        else:
            draft = open_draft(job, None, salt="5a", created_at=ex.NOW)
    except WireError:
        return
    assert parse_request(sent(ex.CUSTOMER, draft), ex.PROVIDER_KEYS).job == job


@given(anything, anything, anything)
def test_announcements_and_heartbeats_of_any_text_are_made_or_refused(d, name, model):
    announcement = replace(ex.ANNOUNCEMENT, d=d, name=name, about=name * 2, software=name)
    heartbeat = replace(ex.HEARTBEAT, d=d, paused=name, models=((model, ""),))
    for make in (
        lambda: announcement_draft(announcement, created_at=ex.NOW),
        lambda: heartbeat_draft(heartbeat, created_at=ex.NOW),
        lambda: withdrawal_draft(ex.PROVIDER.public, d, created_at=ex.NOW),
    ):
        try:
            draft = make()
        except WireError:
            continue
        sent(ex.PROVIDER, draft)


@given(anything, st.booleans())
def test_answers_of_any_text_are_cleaned_alike_in_both_forms(text, private):
    address = replace(ex.ADDRESS, private=private)
    result = replace(ex.RESULT, address=address, text=text)
    piece = replace(ex.FEEDBACK, address=address, text=text)
    event = sent(ex.PROVIDER, result_draft(result, ex.PROVIDER_KEYS, request=ex.plain_request(), created_at=ex.NOW))
    parsed = parse_result(event, ex.CUSTOMER_KEYS)
    said = parse_feedback(
        sent(ex.PROVIDER, feedback_draft(piece, ex.PROVIDER_KEYS, created_at=ex.NOW)), ex.CUSTOMER_KEYS
    )
    assert said.text == parsed.text[:500]
    assert orjson.dumps(parsed.text)


@pytest.mark.parametrize("length", [1_000, 1_001, 1_024, 1_025, 5_000])
def test_a_prompt_of_any_length_never_stands_in_a_long_tag(length):
    job = replace(ex.REQUEST, text="é" * (length // 2), parameters=replace(ex.PARAMETERS, messages=False))
    event = sent(ex.CUSTOMER, open_draft(job, ex.PROVIDER.public, salt="5a", created_at=ex.NOW))
    assert parse_request(event, ex.PROVIDER_KEYS).job == job
