from dataclasses import replace

import orjson
import pytest

from pylon.errors import MalformedError, TooLargeError
from pylon.jobs.heartbeat import EXPIRY_S, MAX_EXPIRY_S, Heartbeat, heartbeat_draft, parse_heartbeat
from pylon.jobs.kinds import HEARTBEAT, SCHEMA
from pylon.nostr.event import Event, EventDraft

from . import examples as ex


def event(content: str, *tags: tuple[str, ...], kind: int = HEARTBEAT) -> Event:
    return ex.PROVIDER.sign(EventDraft(kind, content, tags, ex.NOW))


def ours(body: object) -> Event:
    return event(orjson.dumps(body).decode(), ("d", "x"), ("v", SCHEMA))


def test_a_plain_heartbeat_says_only_that_its_key_lives():
    expected = Heartbeat("x", slots=1, slots_free=1, expires_at=ex.NOW + 300)
    assert parse_heartbeat(event("any thing", ("d", "x"), ("expiration", str(ex.NOW + 300)))) == expected
    # The proposal for NIP-90 needs no `d`.
    assert parse_heartbeat(event("", ("expiration", str(ex.NOW + 300)))) == replace(expected, d="")


def test_without_an_expiration_it_holds_for_two_minutes():
    assert parse_heartbeat(event("", ("d", "x"))).expires_at == ex.NOW + EXPIRY_S


def test_nobody_is_alive_for_a_year_by_one_heartbeat():
    assert parse_heartbeat(event("", ("d", "x"), ("expiration", "9999999999"))).expires_at == ex.NOW + MAX_EXPIRY_S


def test_a_heartbeat_that_ended_long_ago_is_not_renewed_by_reading_it():
    assert parse_heartbeat(event("", ("d", "x"), ("expiration", "0"))).expires_at == 0


def test_a_long_reason_is_cut_rather_than_the_provider_lost():
    draft = heartbeat_draft(replace(ex.HEARTBEAT, paused="\x1b" + "p" * 500), created_at=ex.NOW)
    assert parse_heartbeat(ex.PROVIDER.sign(draft)).paused == "p" * 100


@pytest.mark.parametrize(
    "change",
    [
        {"slots": -1},
        {"tokens_out_per_s": float("nan")},
        {"tokens_in_per_s": float("inf")},
        {"queue_s": 1e10},
        {"models": (("a", ""), ("a", ""))},
        {"models": (("x" * 201, ""),)},
        {"models": (("a", "b" * 65),)},
        {"models": (("a\ud800", ""),)},
        {"price_version": "x" * 101},
        {"expires_at": ex.NOW + MAX_EXPIRY_S + 1},
        {"expires_at": -1},
        {"d": "x" * 201},
    ],
)
def test_a_heartbeat_that_nobody_could_read_is_not_made(change):
    with pytest.raises(MalformedError):
        heartbeat_draft(replace(ex.HEARTBEAT, **change), created_at=ex.NOW)


def test_models_that_do_not_fit_one_event_are_too_many():
    models = tuple((f"{n:03}" + "\U0001f600" * 190, ex.SHA256) for n in range(100))
    with pytest.raises(TooLargeError):
        heartbeat_draft(replace(ex.HEARTBEAT, models=models), created_at=ex.NOW)


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"slots": "8"},
        {"slots": True},
        {"slots": None},
        {"queue_s": -0.1},
        {"tokens_in_per_s": 1e300},
        {"price_version": 5},
        {"paused": "x" * 101},
        {"models": []},
        {"models": {"a": 1}},
        {"models": {str(n): "" for n in range(101)}},
        {"models": {"\x1b": ""}},
    ],
)
def test_a_malformed_heartbeat_is_refused(body):
    with pytest.raises(MalformedError):
        parse_heartbeat(ours(body))


@pytest.mark.parametrize(
    "broken",
    [event("no json", ("d", "x"), ("v", SCHEMA)), event("{}", ("v", SCHEMA)), event("{}", ("d", "x"), kind=11997)],
)
def test_what_is_no_heartbeat_is_refused(broken):
    with pytest.raises(MalformedError):
        parse_heartbeat(broken)
