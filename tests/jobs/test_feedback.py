import math
from dataclasses import replace

import pytest

from pylon.errors import MalformedError, TooLargeError
from pylon.jobs.answer import Amount
from pylon.jobs.codes import ErrorCode
from pylon.jobs.feedback import Feedback, Status, feedback_draft, parse_feedback, shared_error_draft
from pylon.money.msat import Msat
from pylon.nostr.event import Event, EventDraft

from . import examples as ex

OPEN = replace(ex.ADDRESS, private=False)


def signed(feedback: Feedback) -> Event:
    return ex.PROVIDER.sign(feedback_draft(feedback, ex.PROVIDER_KEYS, created_at=ex.NOW))


def plain(content: str, *tags: tuple[str, ...]) -> Feedback:
    about = (("e", ex.REQUEST_ID), ("p", ex.CUSTOMER.public))
    return parse_feedback(ex.PROVIDER.sign(EventDraft(7000, content, (*about, *tags), ex.NOW)), ex.CUSTOMER_KEYS)


def test_the_private_form_does_not_even_tell_the_status():
    event = signed(ex.FEEDBACK)
    assert {tag[0] for tag in event.tags} <= {"e", "p", "encrypted", "encoding", "v", "expiration"}


def test_an_invoice_goes_with_payment_required():
    feedback = Feedback(OPEN, Status.PAYMENT_REQUIRED, amount=Amount(Msat(21_000), "lnbcrt210n1"))
    event = signed(feedback)
    assert ("amount", "21000", "lnbcrt210n1") in event.tags
    assert parse_feedback(event, ex.CUSTOMER_KEYS) == feedback


def test_a_plain_peers_reason_stands_in_its_status():
    assert plain("", ("status", "error", "out of order")).text == "out of order"
    assert plain("", ("status", "processing", "warming up")).text == "warming up"
    assert plain("", ("status", "error")).code is None
    assert plain("", ("status", "error", "busy")).code is ErrorCode.BUSY


def test_a_sentence_for_people_is_short_and_clean():
    long = Feedback(OPEN, Status.ERROR, ErrorCode.BUSY, "\x1b[2J" + "x" * 1_000)
    assert parse_feedback(signed(long), ex.CUSTOMER_KEYS).text == "[2J" + "x" * 497
    assert plain("\x1b[2J" + "y" * 600, ("status", "success")).text == "[2J" + "y" * 497


def test_one_error_names_many_requests_and_each_customer_once():
    both = [replace(OPEN, request="1" * 64), replace(OPEN, request="2" * 64), replace(ex.ADDRESS, customer="3" * 64)]
    draft = shared_error_draft(both, ErrorCode.BUSY, "full\x1b", created_at=ex.NOW, expiration=ex.NOW + 60)
    event = ex.PROVIDER.sign(draft)
    assert list(event.tag_values("e")) == ["1" * 64, "2" * 64, ex.ADDRESS.request]
    assert list(event.tag_values("p")) == [OPEN.customer, "3" * 64]
    read = parse_feedback(event, ex.CUSTOMER_KEYS)
    assert (read.status, read.code, read.text) == (Status.ERROR, ErrorCode.BUSY, "full")
    assert read.address == replace(both[0], expiration=ex.NOW + 60)


def test_a_piece_of_the_answer_is_not_cut():
    piece = Feedback(OPEN, Status.PARTIAL, text="word " * 1_000, offset=25)
    assert parse_feedback(signed(piece), ex.CUSTOMER_KEYS) == piece
    with pytest.raises(TooLargeError):
        signed(replace(piece, text="w" * 70_000))


@pytest.mark.parametrize(
    "change",
    [
        {"offset": -1},
        {"offset": 10**9},
        {"wait_s": -1.0},
        {"wait_s": math.nan},
        {"status": Status.SUCCESS, "code": ErrorCode.BUSY},
        {"amount": Amount(Msat(5), "")},
        {"address": replace(OPEN, request="")},
    ],
)
def test_feedback_that_no_customer_could_read_is_not_made(change):
    with pytest.raises(MalformedError):
        signed(replace(ex.FEEDBACK, **change))


@pytest.mark.parametrize(
    "tags",
    [
        (),
        (("status",),),
        (("status", "done"),),
        (("status", "partial"), ("offset", "-1")),
        (("status", "partial"), ("offset", "1" * 10)),
        (("status", "payment-required"), ("amount", "one")),
    ],
)
def test_malformed_feedback_is_refused(tags):
    with pytest.raises(MalformedError):
        plain("", *tags)


@pytest.mark.parametrize(
    ("given", "read"), [(0.0, 0.0), (2.5, 2.5), (12.3456, 12.3), (1e6, 1e6), (1e9, 1e6), (math.inf, 1e6)], ids=str
)
def test_a_wait_is_told_in_tenths_of_a_second(given, read):
    told = Feedback(OPEN, Status.PROCESSING, wait_s=given)
    assert parse_feedback(signed(told), ex.CUSTOMER_KEYS).wait_s == read


def test_a_wait_may_be_whole_seconds():
    assert plain("", ("status", "processing"), ("wait", "40")).wait_s == 40


@pytest.mark.parametrize("text", ["soon", "-1", "1e3", "nan", "12.34", "\u0661", "", "1" * 12])
def test_a_wait_that_cannot_be_read_is_no_reason_to_do_without_the_job(text):
    assert plain("", ("status", "processing"), ("wait", text)) == plain("", ("status", "processing"))


def test_only_what_is_under_way_waits():
    assert plain("", ("status", "success"), ("wait", "40")).wait_s is None


def test_other_kinds_are_no_feedback():
    with pytest.raises(MalformedError):
        parse_feedback(ex.plain_request(), ex.CUSTOMER_KEYS)
