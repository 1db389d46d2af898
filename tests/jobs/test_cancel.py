import pytest

from pylon.errors import MalformedError, TooLargeError
from pylon.jobs.cancel import cancel_draft, parse_cancel
from pylon.nostr.event import EventDraft

from . import examples as ex


def test_a_cancellation_reaches_provider_and_relay():
    draft = cancel_draft((ex.REQUEST_ID,), 5940, ex.PROVIDER.public, created_at=ex.NOW)
    assert draft.kind == 5
    assert set(draft.tags) == {("e", ex.REQUEST_ID), ("k", "5940"), ("p", ex.PROVIDER.public), ("v", "pylon/1")}


@pytest.mark.parametrize(("requests", "provider"), [((), "aa" * 32), (("x",), "aa" * 32), (("aa" * 32,), "npub1")])
def test_a_cancellation_of_nothing_is_not_made(requests, provider):
    with pytest.raises(MalformedError):
        cancel_draft(requests, 5940, provider, created_at=ex.NOW)


def test_more_than_one_event_holds_is_refused():
    ids = tuple(f"{n:064x}" for n in range(1_000))
    cancel_draft(ids[:800], 5940, ex.PROVIDER.public, created_at=ex.NOW)
    with pytest.raises(TooLargeError) as caught:
        cancel_draft(ids, 5940, ex.PROVIDER.public, created_at=ex.NOW)
    assert "jobs" in caught.value.hint


def test_deletions_of_anything_else_are_no_cancellations():
    for draft in (EventDraft(5, "", (("a", "31990:x:y"),), ex.NOW), EventDraft(5, "", (("e", "x"),), ex.NOW)):
        with pytest.raises(MalformedError):
            parse_cancel(ex.CUSTOMER.sign(draft))
    with pytest.raises(MalformedError):
        parse_cancel(ex.plain_request())
