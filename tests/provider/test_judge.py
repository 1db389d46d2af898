"""What is made of a request as it came, and of one that an earlier process took on."""

from dataclasses import replace

import pytest

from pylon.jobs.codes import ErrorCode
from pylon.jobs.parameters import JobParameters
from pylon.jobs.request import JobRequest, open_draft, private_draft
from pylon.money.accounts.usage import Usage
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey
from pylon.nostr.pool_subscription import Received
from pylon.provider.admission import Load
from pylon.provider.customers import Standing
from pylon.provider.intake.refused_requests import KEEP_S
from pylon.provider.judge import LOOK_BACK_S, Judge
from pylon.provider.queue import Job
from pylon.provider.refusal import Refusal
from pylon.provider.rows import JobState, Pending
from pylon.provider.settings import ProviderSettings
from tests.manual_clock import ManualClock

US, CUSTOMER, ANOTHER = (SecretKey(bytes(31) + bytes([n])) for n in (7, 8, 9))
CLOCK = ManualClock()
NOW = int(CLOCK.wall())
SETTINGS = ProviderSettings(serve_broadcast=True)


def judge(settings=SETTINGS, **load):
    asked = []

    def loaded(customer, ahead):
        asked.append((customer, list(ahead)))
        return Load(**{"models": (("m", ""),), **load})

    made = Judge(provider=US.public, keys=ConversationKeys(US), settings=settings, clock=CLOCK, load=loaded)
    return made, asked


def sealed(created_at=NOW, **parameters):
    job = JobRequest("prompt", JobParameters(**parameters), expiration=NOW + 60)
    return CUSTOMER.sign(private_draft(job, US.public, ConversationKeys(CUSTOMER), created_at=created_at))


def unreadable(*, provider=US.public, private=True):
    tags = (("p", provider), *((("encrypted",),) if private else ()))
    return CUSTOMER.sign(EventDraft(5940, "nothing sealed", tags if provider else tags[1:], NOW))


def left(event, state=JobState.QUEUED, **changes):
    return Pending(
        event, "ws://r", 5.0, **{"expires_at": NOW + 60, "state": state, "result": None, "model": "m"} | changes
    )


def test_a_request_that_somebody_kept_is_not_taken_on_later_whatever_its_deadline():
    kept, still_new = sealed(created_at=NOW - LOOK_BACK_S - 1), sealed(created_at=NOW - LOOK_BACK_S)
    refusal = judge()[0].judge(Received(kept, "ws://r"), [])
    assert isinstance(refusal, Refusal) and (refusal.id, refusal.code) == (kept.id, ErrorCode.EXPIRED)
    assert isinstance(judge()[0].judge(Received(still_new, "ws://r"), []), Job)


@pytest.mark.parametrize("age_s", [0, LOOK_BACK_S + 1])
@pytest.mark.parametrize("provider", [None, US.public])
def test_an_open_request_gets_no_word_where_none_are_served_however_old_it_is(provider, age_s):
    job = JobRequest("prompt", JobParameters(), expiration=NOW + 60)
    event = CUSTOMER.sign(open_draft(job, provider, salt="1", created_at=NOW - age_s))
    shut = replace(SETTINGS, serve_broadcast=False, serve_open=False)
    assert judge(shut)[0].judge(Received(event, "ws://r"), []) is None


def test_what_was_said_of_a_request_is_known_for_as_long_as_it_may_be_taken_on():
    assert LOOK_BACK_S + SETTINGS.max_ahead_s <= KEEP_S


def test_a_job_that_was_taken_on_is_done_however_long_it_waits():
    event = sealed(created_at=NOW - 3_000)
    assert isinstance(judge()[0].restore(left(event)), Job)


def test_an_admitted_request_is_a_job_of_where_and_when_it_came():
    event = sealed()
    job = judge()[0].judge(Received(event, "ws://r"), [])
    assert (job.id, job.event, job.relay, job.received_at, job.trusted) == (event.id, event, "ws://r", NOW, False)
    assert (job.terms.model, job.terms.expires_at) == ("m", NOW + 60)


def test_a_trusted_key_is_known_as_such_and_quoted_nothing():
    settings = replace(SETTINGS, trusted=frozenset({CUSTOMER.public}), price=Price(Msat(1_000), Msat(0), Msat(0)))
    job = judge(settings)[0].judge(Received(sealed(), ""), [])
    assert job.trusted and not job.terms.quote
    assert judge(settings)[0].restore(left(sealed())).trusted


def test_the_load_is_asked_for_its_customer_with_the_jobs_that_go_before_it():
    one, asked = judge()
    first = one.judge(Received(sealed(), ""), [])
    one.judge(Received(sealed(max_tokens=3), ""), [first])
    assert asked == [(CUSTOMER.public, []), (CUSTOMER.public, [first])]


def test_what_is_refused_says_to_whom_about_what_and_over_which_relay():
    event = sealed()
    refusal = judge(paused="owner")[0].judge(Received(event, "ws://r"), [])
    assert refusal == Refusal(CUSTOMER.public, event.id, True, "ws://r", ErrorCode.PAUSED, "owner")


def test_a_stranger_for_whom_there_is_no_place_is_refused_before_its_request_is_opened():
    one, _ = judge(others=SETTINGS.max_customers)
    for event in (unreadable(), sealed()):
        found = one.judge(Received(event, "ws://r"), [])
        assert (found.id, found.code, found.private, found.relay) == (event.id, ErrorCode.BUSY, True, "ws://r")
    nip04 = CUSTOMER.sign(EventDraft(5940, "c2VhbGVk?iv=aXY=", (("p", US.public), ("encrypted",)), NOW))
    assert not one.judge(Received(nip04, ""), []).private


def test_a_full_line_is_nothing_to_a_trusted_key_and_a_pause_or_a_form_that_is_not_served_comes_first():
    full = {"others": SETTINGS.max_customers}
    trusting = replace(SETTINGS, trusted=frozenset({CUSTOMER.public}))
    assert isinstance(judge(trusting, **full)[0].judge(Received(sealed(), ""), []), Job)
    assert judge(paused="owner", **full)[0].judge(Received(sealed(), ""), []).code is ErrorCode.PAUSED
    shut = replace(SETTINGS, serve_open=False)
    job = JobRequest("prompt", JobParameters(), expiration=NOW + 60)
    event = CUSTOMER.sign(open_draft(job, US.public, salt="1", created_at=NOW))
    assert judge(shut, **full)[0].judge(Received(event, ""), []) is None


def test_a_job_is_of_the_standing_that_its_customer_had():
    assert judge(standing=Standing.REGULAR)[0].judge(Received(sealed(), ""), []).standing is Standing.REGULAR
    assert judge(standing=Standing.RECENT)[0].restore(left(sealed())).standing is Standing.RECENT


def test_a_blocked_key_is_passed_over_before_its_request_is_opened_or_the_load_is_asked_for():
    one, asked = judge(replace(SETTINGS, blocked=frozenset({CUSTOMER.public})))
    assert one.judge(Received(sealed(), ""), []) is None
    assert one.judge(Received(unreadable(), ""), []) is None
    assert one.restore(left(unreadable())) is None
    assert one.restore(left(sealed())) is None
    assert asked == []


def test_what_cannot_be_read_is_answered_where_it_names_us_and_in_the_form_in_which_it_came():
    one, _ = judge()
    for private, code in ((True, ErrorCode.UNDECRYPTABLE), (False, ErrorCode.MALFORMED)):
        event = unreadable(private=private)
        found = one.judge(Received(event, "ws://r"), [])
        assert (found.customer, found.id, found.private, found.relay) == (
            CUSTOMER.public,
            event.id,
            private,
            "ws://r",
        )
        assert found.code is code


def test_what_cannot_be_read_and_names_nobody_is_passed_over_and_answered_if_it_was_taken_on_before():
    one, _ = judge()
    event = unreadable(provider="", private=False)
    assert one.judge(Received(event, ""), []) is None
    assert one.restore(left(event)).code is ErrorCode.MALFORMED


def test_an_open_request_to_everybody_is_a_job_where_broadcasts_are_served():
    job = JobRequest("prompt", JobParameters(), expiration=NOW + 60)
    event = CUSTOMER.sign(open_draft(job, None, salt="1", created_at=NOW))
    assert isinstance(judge()[0].judge(Received(event, ""), []), Job)
    shut = judge(replace(SETTINGS, serve_broadcast=False))[0]
    assert shut.judge(Received(event, ""), []) is None and shut.restore(left(event)) is None


def test_a_job_of_an_earlier_process_is_the_job_that_it_was():
    event = sealed()
    job = judge()[0].restore(left(event, sent=Usage(4, 2), begun=True))
    assert (job.id, job.event, job.received_at, job.relay) == (event.id, event, 5.0, "ws://r")
    assert (job.sent, job.again) == (Usage(4, 2), True)


def test_a_job_of_an_earlier_process_needs_no_room_and_no_wallet_and_is_done_though_the_owner_has_paused_since():
    busy = {"paused": "owner", "waiting": 10**6, "of_customer": 10**6, "wallet_down": True}
    priced = replace(SETTINGS, price=Price(Msat(1_000), Msat(0), Msat(0)))
    assert isinstance(judge(priced, **busy, unpaid_of_customer=10**6)[0].restore(left(sealed())), Job)


def test_a_job_of_an_earlier_process_is_refused_what_can_no_longer_be_done():
    event = sealed()
    refusal = judge(replace(SETTINGS, max_prompt_bytes=3))[0].restore(left(event))
    words = "prompts may have at most 3 bytes here"
    assert refusal == Refusal(CUSTOMER.public, event.id, True, "ws://r", ErrorCode.TOO_LARGE, words)


def test_whether_answers_follow_schemas_counts_as_it_is_now():
    event = sealed(format="json_schema", schema='{"type":"object"}')
    assert isinstance(judge(schemas=True)[0].restore(left(event)), Job)
    assert judge(schemas=False)[0].restore(left(event)).code is ErrorCode.UNSUPPORTED_PARAM


def test_a_plain_customer_is_answered_as_nip_90_has_it_and_in_the_open_where_it_may_read_nip_04_alone():
    tags = (("p", US.public), ("encrypted",))
    for content, version, private, plain in (
        ("nothing sealed", (), True, True),
        ("c2VhbGVk?iv=aXY=", (), False, True),
        ("c2VhbGVk?iv=aXY=", (("v", "pylon/1"),), True, False),
    ):
        event = CUSTOMER.sign(EventDraft(5940, content, (*tags, *version), NOW))
        found = judge()[0].judge(Received(event, "ws://r"), [])
        assert (found.code, found.private, found.plain) == (ErrorCode.UNDECRYPTABLE, private, plain)
    bare = ConversationKeys(CUSTOMER).encrypt(US.public, b'[["i","prompt"]]')
    event = CUSTOMER.sign(EventDraft(5940, bare, tags, NOW))
    assert judge()[0].judge(Received(event, "ws://r"), []).request.plain
    assert judge(paused="owner")[0].judge(Received(event, "ws://r"), []).plain
