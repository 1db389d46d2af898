from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import MalformedError, TooLargeError
from pylon.jobs.answer import Amount
from pylon.jobs.kinds import RESULT_KINDS, result_kind
from pylon.jobs.result import Finish, JobResult, ModelUsed, Timing, parse_result, result_draft
from pylon.jobs.size import MAX_EVENT_BYTES
from pylon.money.accounts.usage import Usage
from pylon.money.msat import Msat
from pylon.nostr.event import Event, EventDraft

from . import examples as ex

OPEN = replace(ex.ADDRESS, private=False)


def signed(result: JobResult, request: Event | None = None, **more: int) -> Event:
    request = request or ex.plain_request()
    return ex.PROVIDER.sign(result_draft(result, ex.PROVIDER_KEYS, request=request, created_at=ex.NOW, **more))


def test_a_results_kind_is_a_thousand_above_its_requests():
    assert {result_kind(5050), result_kind(5940)} == RESULT_KINDS == {6050, 6940}


def test_the_private_form_shows_only_whose_answer_it_is():
    event = signed(ex.RESULT)
    assert {tag[0] for tag in event.tags} <= {"e", "p", "encrypted", "encoding", "v", "expiration"}
    for secret in (b"Paris", b"needle", b"1250", b"lnbcrt", b"hello"):
        assert secret not in event.to_json()


def test_the_open_form_echoes_the_request_and_its_input():
    request = ex.plain_request("hello")
    event = signed(replace(ex.RESULT, address=OPEN), request)
    assert event.tag("i") == "hello"
    assert orjson.loads(event.tag("request"))["id"] == request.id
    assert event.content == "Paris"


def test_a_long_open_answer_leaves_the_echo_out_rather_than_its_end():
    request = ex.plain_request("x" * 1_000, *((("param", "system", "y" * 20_000),)))
    both = signed(replace(ex.RESULT, address=OPEN, text="z" * 30_000), request)
    without_request = signed(replace(ex.RESULT, address=OPEN, text="z" * 60_000), request)
    alone = signed(replace(ex.RESULT, address=OPEN, text="z" * 64_500), request)
    assert [
        ("request" in {t[0] for t in e.tags}, e.tag("i") is not None) for e in (both, without_request, alone)
    ] == [
        (True, True),
        (False, True),
        (False, False),
    ]
    assert all(parse_result(e, ex.CUSTOMER_KEYS).finish is Finish.STOP for e in (both, without_request, alone))


@pytest.mark.parametrize("prompt", ["x" * 1_025, "é" * 600, "a\x00b", "a\x1bb"])
def test_an_input_that_relays_would_refuse_us_for_is_not_echoed(prompt):
    event = signed(replace(ex.RESULT, address=OPEN), ex.plain_request(prompt))
    assert event.tag("i") is None
    assert orjson.loads(event.tag("request"))["tags"][0][1] == prompt


@given(
    st.text(ex.unicode, min_size=1, max_size=40),
    st.integers(1, 400_000),
    st.booleans(),
    st.sampled_from([2_000, 16_384, MAX_EVENT_BYTES]),
)
def test_an_answer_of_any_length_fits_and_says_when_it_was_cut(piece, length, private, limit):
    text = (piece * (length // len(piece) + 1))[:length]
    address = replace(ex.ADDRESS, private=private)
    result = replace(ex.RESULT, address=address, text=text)
    event = signed(result, limit=limit)
    assert len(event.to_json()) <= limit
    parsed = parse_result(event, ex.CUSTOMER_KEYS)
    whole = parsed.finish is Finish.STOP
    assert whole or parsed.finish is Finish.SIZE
    assert replace(parsed, text="", finish=None) == replace(result, text="", finish=None)
    cleaned = "".join(c for c in text if c in "\t\n\r" or not (c < " " or "\x7f" <= c <= "\x9f"))
    assert parsed.text == cleaned if whole else cleaned.startswith(parsed.text)


def test_an_answer_of_megabytes_is_cut_too():
    text = "".join(f"{n * 2654435761 % 2**32:08x}" for n in range(600_000))
    parsed = parse_result(signed(replace(ex.RESULT, text=text)), ex.CUSTOMER_KEYS)
    assert parsed.finish is Finish.SIZE
    assert len(parsed.text) > 40_000


def test_nothing_is_cut_that_fits():
    # The cut takes as much as fits: one character more would not.
    text = "".join(f"{n * 2654435761 % 2**32:08x}" for n in range(10_000))
    event = signed(replace(ex.RESULT, address=OPEN, text=text))
    assert MAX_EVENT_BYTES - 4 <= len(event.to_json()) <= MAX_EVENT_BYTES


def test_a_receipt_that_does_not_fit_is_an_error_and_not_a_cut():
    with pytest.raises(TooLargeError, match="2,000"):
        signed(replace(ex.RESULT, address=OPEN, amount=Amount(Msat(1), "l" * 2_000)), limit=2_000)


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_times_are_told_in_steps_of_50_ms(queue_s, run_s):
    rounded = Timing.rounded(queue_s, run_s)
    assert rounded.queue_ms % 50 == rounded.run_ms % 50 == 0
    assert abs(rounded.queue_ms - queue_s * 1_000) <= 25.001
    exact = Timing(round(queue_s * 1_000), round(run_s * 1_000))
    timing = parse_result(signed(replace(ex.RESULT, timing=exact)), ex.CUSTOMER_KEYS).timing
    assert timing is not None
    assert timing.queue_ms % 50 == timing.run_ms % 50 == 0


def test_control_characters_and_lone_surrogates_leave_an_answer_before_it_is_signed():
    text = "\x00a\x08b\x1b[31mc\td\ne\r\x7f\x9bf\ud83dg\U0001f600"
    for address in (ex.ADDRESS, OPEN):
        parsed = parse_result(signed(replace(ex.RESULT, address=address, text=text)), ex.CUSTOMER_KEYS)
        assert parsed.text == "ab[31mc\td\ne\rfg\U0001f600"


def test_control_characters_of_a_hostile_provider_reach_no_terminal():
    event = ex.PROVIDER.sign(EventDraft(6050, "a\x1b]0;owned\x07b", (("e", ex.REQUEST_ID), ("p", "aa" * 32)), ex.NOW))
    assert parse_result(event, ex.CUSTOMER_KEYS).text == "a]0;ownedb"


@pytest.mark.parametrize(
    "change",
    [
        {"kind": 7000},
        {"address": replace(ex.ADDRESS, request="x")},
        {"address": replace(ex.ADDRESS, customer="x", private=False)},
        {"address": replace(ex.ADDRESS, expiration=-1)},
        {"model": ModelUsed("x" * 201)},
        {"model": ModelUsed("a\x00")},
        {"model": ModelUsed("a", "beef")},
        {"usage": Usage(-1, 0)},
        {"usage": Usage(10**12, 0)},
        {"timing": Timing(-50, 0)},
        {"amount": Amount(Msat(5), "")},
        {"account": replace(ex.RECEIPT, seq=0)},
        {"account": replace(ex.RECEIPT, epoch="x")},
    ],
)
def test_a_result_that_no_customer_could_read_is_not_made(change):
    with pytest.raises(MalformedError):
        signed(replace(ex.RESULT, **change))


@pytest.mark.parametrize(
    "tags",
    [
        (),
        (("e", "x"), ("p", "aa" * 32)),
        (("e", "aa" * 32),),
        (("e", "aa" * 32), ("p", "AA" * 32)),
        (("e", "aa" * 32), ("p", "aa" * 32), ("model", "x", "beef", "")),
        (("e", "aa" * 32), ("p", "aa" * 32), ("usage", "1", "-1")),
        (("e", "aa" * 32), ("p", "aa" * 32), ("timing", "x", "1")),
        (("e", "aa" * 32), ("p", "aa" * 32), ("amount", "1.5")),
        (("e", "aa" * 32), ("p", "aa" * 32), ("account", "x")),
    ],
)
def test_a_malformed_result_is_refused(tags):
    with pytest.raises(MalformedError):
        parse_result(ex.PROVIDER.sign(EventDraft(6940, "x", tags, ex.NOW)), ex.CUSTOMER_KEYS)


def test_other_kinds_are_no_results():
    with pytest.raises(MalformedError):
        parse_result(ex.plain_request(), ex.CUSTOMER_KEYS)


def test_a_plain_providers_result_is_its_text():
    tags = (("e", ex.REQUEST_ID, "wss://relay.example.com"), ("p", ex.CUSTOMER.public), ("finish", "whenever"))
    parsed = parse_result(ex.PROVIDER.sign(EventDraft(6050, "Paris", tags, ex.NOW)), ex.CUSTOMER_KEYS)
    assert parsed == JobResult(replace(OPEN, expiration=None), 6050, "Paris")
