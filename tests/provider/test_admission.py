from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.jobs.codes import ErrorCode
from pylon.jobs.parameters import JobParameters
from pylon.jobs.request import JobRequest, ReceivedRequest
from pylon.money.msat import Msat
from pylon.money.price import Price
from pylon.provider.admission import Accept, Ignore, Load, Refuse, admit
from pylon.provider.settings import ProviderSettings

US, CUSTOMER = "a" * 64, "c" * 64
NOW = 1_700_000_000
SETTINGS = ProviderSettings()
LOAD = Load((("needle-1", "f" * 64),))
REQUEST = ReceivedRequest("1" * 64, CUSTOMER, NOW, JobRequest("prompt", expiration=NOW + 60), True, (US,))


def judge(request=REQUEST, settings=SETTINGS, load=LOAD, now=NOW):
    return admit(request, settings, load, provider=US, now=now)


def with_job(**changes) -> ReceivedRequest:
    return replace(REQUEST, job=replace(REQUEST.job, **changes))


def with_parameters(**changes) -> ReceivedRequest:
    return with_job(parameters=JobParameters(**changes))


def test_a_plain_request_is_accepted_for_the_model_that_runs_here():
    verdict = judge()
    assert isinstance(verdict, Accept)
    assert (verdict.model, verdict.expires_at, verdict.quote) == ("needle-1", NOW + 60, 0)


def test_a_schema_is_taken_on_where_the_engine_can_follow_it():
    request = with_parameters(format="json_schema", schema="{}")
    assert isinstance(judge(request, load=replace(LOAD, schemas=True)), Accept)
    assert isinstance(judge(request), Refuse)


def test_json_is_promised_only_where_a_schema_makes_it():
    able = replace(LOAD, schemas=True)
    wanted = with_job(output="application/json")
    refused = judge(wanted, load=able)
    assert isinstance(refused, Refuse) and refused.code is ErrorCode.UNSUPPORTED_PARAM
    by_schema = replace(wanted.job, parameters=JobParameters(format="json_schema", schema="{}"))
    assert isinstance(judge(replace(wanted, job=by_schema), load=able), Accept)
    assert isinstance(judge(with_job(output="text/markdown")), Accept)


def test_a_request_without_a_deadline_is_worth_ten_minutes():
    verdict = judge(with_job(expiration=None))
    assert isinstance(verdict, Accept)
    assert verdict.expires_at == NOW + 600
    assert judge(with_job(expiration=None), now=NOW + 600) == Refuse(
        ErrorCode.EXPIRED, "the deadline had passed when the request arrived"
    )


def test_a_job_is_kept_for_an_hour_whatever_later_deadline_it_names():
    verdict = judge(with_job(expiration=NOW + 10 * 365 * 86_400))
    assert isinstance(verdict, Accept)
    assert verdict.expires_at == NOW + 3_600


@pytest.mark.parametrize(
    ("request_", "settings", "load", "now", "code"),
    [
        (REQUEST, SETTINGS, LOAD, NOW + 60, ErrorCode.EXPIRED),
        (replace(REQUEST, created_at=NOW + 901), SETTINGS, LOAD, NOW, ErrorCode.MALFORMED),
        (REQUEST, replace(SETTINGS, kinds=frozenset({5050})), LOAD, NOW, ErrorCode.UNSUPPORTED_KIND),
        (with_parameters(model="other"), SETTINGS, LOAD, NOW, ErrorCode.UNSUPPORTED_MODEL),
        (with_parameters(model="sha256:" + "e" * 64), SETTINGS, LOAD, NOW, ErrorCode.UNSUPPORTED_MODEL),
        (with_parameters(format="json_schema", schema="{}"), SETTINGS, LOAD, NOW, ErrorCode.UNSUPPORTED_PARAM),
        (with_job(text="é" * 6), replace(SETTINGS, max_prompt_bytes=11), LOAD, NOW, ErrorCode.TOO_LARGE),
        (with_parameters(system="é" * 6), replace(SETTINGS, max_prompt_bytes=11), LOAD, NOW, ErrorCode.TOO_LARGE),
        (REQUEST, SETTINGS, replace(LOAD, paused="owner"), NOW, ErrorCode.PAUSED),
        (REQUEST, SETTINGS, replace(LOAD, waiting=2_000), NOW, ErrorCode.BUSY),
        (REQUEST, SETTINGS, replace(LOAD, of_customer=1_000), NOW, ErrorCode.CUSTOMER_LIMIT),
        (
            REQUEST,
            replace(SETTINGS, price=Price(Msat(10), Msat(0), Msat(0))),
            replace(LOAD, unpaid_of_customer=100),
            NOW,
            ErrorCode.CUSTOMER_LIMIT,
        ),
        (
            with_job(bid=Msat(9)),
            replace(SETTINGS, price=Price(Msat(10), Msat(0), Msat(0))),
            LOAD,
            NOW,
            ErrorCode.BID_TOO_LOW,
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_code(request_, settings, load, now, code):
    verdict = judge(request_, settings, load, now)
    assert isinstance(verdict, Refuse)
    assert verdict.code is code


@pytest.mark.parametrize(
    ("asked", "of_model", "of_owner", "longest"),
    [
        (None, 0, 4_096, 512),
        (None, 12, 4_096, 12),
        (600, 12, 4_096, 12),
        (7, 12, 4_096, 7),
        (600, 0, 100, 100),
        (600, 300, 100, 100),
    ],
)
def test_an_answer_is_as_long_as_asked_for_and_as_model_and_owner_allow_and_priced_by_that(
    asked, of_model, of_owner, longest
):
    settings = replace(SETTINGS, max_tokens=of_owner, price=Price(Msat(0), Msat(0), Msat(1_000)))
    request = with_job(parameters=JobParameters(max_tokens=asked))
    verdict = judge(request, settings, replace(LOAD, max_completion_tokens=of_model))
    assert isinstance(verdict, Accept)
    assert (verdict.max_tokens, verdict.quote) == (longest, longest)


def test_a_model_is_found_by_its_weights_hash():
    assert isinstance(judge(with_parameters(model="sha256:" + "f" * 64)), Accept)


def test_a_model_is_found_by_its_name():
    verdict = judge(with_parameters(model="needle-1"))
    assert isinstance(verdict, Accept) and verdict.model == "needle-1"


def test_while_the_wallet_is_down_what_costs_something_waits_and_trusted_keys_and_free_work_do_not():
    down, paid = replace(LOAD, wallet_down=True), replace(SETTINGS, price=Price(Msat(10)))
    assert judge(settings=paid, load=down) == Refuse(ErrorCode.PAUSED, "wallet")
    assert isinstance(judge(settings=replace(paid, trusted=frozenset({CUSTOMER})), load=down), Accept)
    assert isinstance(judge(load=down), Accept)


def test_whoever_owes_for_many_jobs_still_has_what_costs_nothing_done():
    owing, paid = replace(LOAD, unpaid_of_customer=10**6), replace(SETTINGS, price=Price(Msat(10)))
    refused = judge(settings=paid, load=owing)
    assert isinstance(refused, Refuse) and refused.code is ErrorCode.CUSTOMER_LIMIT
    assert isinstance(judge(load=owing), Accept)


@pytest.mark.parametrize("named", [True, False])
def test_open_requests_that_name_us_and_those_to_everybody_are_served_each_by_its_own_setting(named):
    request = replace(REQUEST, private=False, providers=(US,) if named else ())
    for serve_open in (True, False):
        settings = replace(SETTINGS, serve_open=serve_open, serve_broadcast=not serve_open)
        assert isinstance(judge(request, settings=settings), Accept) is (serve_open is named)


def test_an_unknown_weights_hash_matches_no_empty_one():
    verdict = judge(with_parameters(model="sha256:"), load=Load((("loading-model", ""),)))
    assert isinstance(verdict, Refuse)


@pytest.mark.parametrize(
    ("request_", "settings"),
    [
        (REQUEST, replace(SETTINGS, blocked=frozenset({CUSTOMER}))),
        (replace(REQUEST, providers=("b" * 64,)), SETTINGS),
        (replace(REQUEST, providers=(), private=False), SETTINGS),
        (replace(REQUEST, private=False), replace(SETTINGS, serve_open=False)),
        (replace(REQUEST, providers=()), replace(SETTINGS, serve_broadcast=True)),
    ],
)
def test_what_is_not_for_us_is_met_with_silence(request_, settings):
    assert isinstance(judge(request_, settings), Ignore)


def test_a_request_that_names_us_among_others_is_for_us():
    assert isinstance(judge(replace(REQUEST, providers=("b" * 64, US))), Accept)


def test_trusted_keys_are_not_charged_and_not_limited():
    settings = replace(SETTINGS, trusted=frozenset({CUSTOMER}), price=Price(Msat(1_000), Msat(0), Msat(0)))
    verdict = judge(with_job(bid=Msat(0)), settings, replace(LOAD, waiting=10_000, of_customer=10_000))
    assert isinstance(verdict, Accept)
    assert verdict.quote == 0


@given(
    bid=st.integers(0, 10_000),
    base=st.integers(0, 1_000),
    rate_in=st.integers(0, 100_000),
    rate_out=st.integers(0, 100_000),
    size=st.integers(0, 300),
    max_tokens=st.integers(1, 10_000),
)
def test_nothing_is_accepted_whose_quote_is_above_its_bid(bid, base, rate_in, rate_out, size, max_tokens):
    settings = replace(SETTINGS, price=Price(Msat(base), Msat(rate_in), Msat(rate_out)))
    request = with_job(text="x" * size, bid=Msat(bid), parameters=JobParameters(max_tokens=max_tokens))
    verdict = judge(request, settings)
    if isinstance(verdict, Accept):
        assert verdict.quote <= bid
        assert verdict.max_tokens <= settings.max_tokens
    else:
        assert verdict.code is ErrorCode.BID_TOO_LOW


def test_where_only_trusted_keys_are_served_others_hear_nothing():
    settings = replace(SETTINGS, only_trusted=True, trusted=frozenset({"d" * 64}))
    assert judge(settings=settings) == Ignore()
    assert isinstance(judge(settings=replace(settings, trusted=frozenset({CUSTOMER}))), Accept)


def test_what_a_system_prompt_costs_to_read_is_in_the_quote():
    settings = replace(SETTINGS, price=Price(Msat(0), Msat(1_000), Msat(0)))
    short, long = (judge(with_parameters(system="x" * size), settings) for size in (10, 10_000))
    assert isinstance(short, Accept) and isinstance(long, Accept)
    assert long.quote - short.quote == 9_990
