import random
from dataclasses import replace
from importlib.resources import files

import orjson
import pytest

from pylon.errors import TooLargeError
from pylon.jobs.codes import ErrorCode, RequestError
from pylon.jobs.feedback import Feedback, Status, feedback_draft
from pylon.jobs.kinds import FEEDBACK, RLM_REQUEST, TEXT_REQUEST
from pylon.jobs.parameters import JobParameters
from pylon.jobs.payload import open_payload
from pylon.jobs.request import JobRequest, open_draft, parse_messages, parse_request, private_draft
from pylon.money.msat import Msat
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.event import Event, EventDraft
from pylon.nostr.keys import SecretKey

from . import examples as ex

SECRETS = JobRequest(
    "the prompt nobody may see",
    JobParameters(
        model="secret-model", system="secret system", max_tokens=765432, temperature=0.123, stop=("halt!",)
    ),
    bid=Msat(54_321),
    topup=Msat(98_765),
)


def private(job: JobRequest, **more: int) -> EventDraft:
    return private_draft(job, ex.PROVIDER.public, ex.CUSTOMER_KEYS, created_at=ex.NOW, **more)


def sealed(payload: object, *outside: tuple[str, ...], kind: int = RLM_REQUEST) -> Event:
    """A private request with any payload inside."""
    content = ex.CUSTOMER_KEYS.encrypt(ex.PROVIDER.public, orjson.dumps(payload))
    tags = (("p", ex.PROVIDER.public), ("encrypted",), *outside)
    return ex.CUSTOMER.sign(EventDraft(kind, content, tags, ex.NOW))


def refusal(event: Event, keys: ConversationKeys = ex.PROVIDER_KEYS) -> ErrorCode:
    with pytest.raises(RequestError) as caught:
        parse_request(event, keys)
    return caught.value.code


def test_the_private_form_shows_nothing_but_whom_it_is_for_and_until_when():
    event = ex.CUSTOMER.sign(private(replace(SECRETS, expiration=ex.NOW + 60)))
    assert {tag[0] for tag in event.tags} <= {"p", "encrypted", "encoding", "v", "expiration"}
    shown = event.to_json()
    for secret in (b"prompt", b"secret", b"765432", b"0.123", b"halt", b"54321", b"98765", b"param", b"text"):
        assert secret not in shown
    again = ex.CUSTOMER.sign(private(SECRETS))
    assert again.id != event.id
    assert again.content != event.content


def test_equal_open_jobs_of_one_second_are_two_events():
    first, second = (
        ex.CUSTOMER.sign(open_draft(SECRETS, None, salt=salt, created_at=ex.NOW)) for salt in ("aa", "bb")
    )
    assert first.id != second.id


@pytest.mark.parametrize("form", ["private", "open"])
def test_a_job_too_large_for_one_event_names_size_and_limit_before_anything_is_signed(form):
    # Random-looking text, so that compression does not help.
    job = replace(SECRETS, text="".join(f"{n * 2654435761 % 2**32:08x}" for n in range(20_000)))
    with pytest.raises(TooLargeError) as caught:
        private(job) if form == "private" else open_draft(job, None, salt="5a", created_at=ex.NOW)
    assert "65,536" in str(caught.value)
    assert any(int(word.replace(",", "")) > 65_536 for word in str(caught.value).split() if word[0].isdigit())
    assert caught.value.hint


def test_more_than_four_mebibytes_name_size_and_limit():
    with pytest.raises(TooLargeError, match="4,194,304"):
        private(replace(SECRETS, text="x" * 4_200_000))


def test_a_smaller_limit_of_a_relay_is_kept():
    with pytest.raises(TooLargeError, match="500"):
        private(SECRETS, limit=500)


def test_prose_of_sixty_thousand_characters_fits_one_private_event():
    # Words drawn at random shrink less than prose does.
    words = files("pylon.nostr.crypto").joinpath("bip39-english.txt").read_text().split()
    text = " ".join(random.Random(1).choices(words, k=11_000))[:60_000]
    assert parse_request(ex.CUSTOMER.sign(private(replace(SECRETS, text=text))), ex.PROVIDER_KEYS).job.text == text


@pytest.mark.parametrize(
    "change",
    [
        {"kind": FEEDBACK},
        {"expiration": -1},
        {"expiration": 10**16},
        {"output": "image/png"},
        {"parameters": JobParameters(max_tokens=0)},
        {"parameters": JobParameters(temperature=float("nan"))},
        {"parameters": JobParameters(model="")},
        {"parameters": JobParameters(stop=("",))},
        {"parameters": JobParameters(stop=("x",) * 17)},
        {"parameters": JobParameters(format="json_schema")},
        {"parameters": JobParameters(schema="{}")},
        {"parameters": JobParameters(messages=True)},
    ],
)
def test_what_a_provider_would_refuse_is_refused_before_it_is_signed(change):
    job = replace(SECRETS, **change)
    with pytest.raises(RequestError):
        private(job)
    with pytest.raises(RequestError):
        open_draft(job, None, salt="5a", created_at=ex.NOW)


def test_a_field_that_cannot_be_written_is_named():
    with pytest.raises(RequestError, match="parameters"):
        private(replace(SECRETS, parameters=JobParameters(schema="{}")))


@pytest.mark.parametrize("text", ["a\x00b", "a\x1b[31mb", "a\x0cb", "\x9b", "a\ud800b"])
def test_control_characters_and_lone_surrogates_are_not_sent_in_the_open(text):
    for job in (replace(SECRETS, text=text), replace(SECRETS, parameters=JobParameters(system=text))):
        with pytest.raises(RequestError, match="control"):
            open_draft(job, None, salt="5a", created_at=ex.NOW)


def test_an_open_request_names_its_provider_by_a_public_key():
    with pytest.raises(RequestError, match="provider"):
        open_draft(SECRETS, "npub1xyz", salt="5a", created_at=ex.NOW)


def test_other_kinds_are_not_served():
    assert refusal(ex.plain_request(kind=5001)) is ErrorCode.UNSUPPORTED_KIND


def test_a_request_sealed_for_somebody_else_is_undecryptable():
    other = ConversationKeys(SecretKey(bytes.fromhex("03" * 32)))
    assert refusal(ex.CUSTOMER.sign(private(SECRETS)), other) is ErrorCode.UNDECRYPTABLE


def test_a_tampered_request_is_undecryptable():
    event = ex.CUSTOMER.sign(private(SECRETS))
    assert refusal(replace(event, content=event.content[:-8] + "AAAAAAA=")) is ErrorCode.UNDECRYPTABLE


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ("a string", ErrorCode.MALFORMED),
        ({"text": 1}, ErrorCode.MALFORMED),
        ({"text": "x", "tags": {}}, ErrorCode.MALFORMED),
        ({"text": "x", "tags": [["i", "", "text"]] * 1_001}, ErrorCode.MALFORMED),
        ({"text": "x", "tags": [[]]}, ErrorCode.MALFORMED),
        ({"text": "x", "tags": [["bid", 5]]}, ErrorCode.MALFORMED),
        ({"text": "x", "tags": [["bid", "-5"]]}, ErrorCode.MALFORMED),
        ({"text": "x", "tags": [["topup", "1e3"]]}, ErrorCode.MALFORMED),
        ({"text": "x", "tags": [["account-seen", "short", "1", "0"]]}, ErrorCode.MALFORMED),
        ({"text": "x", "tags": [["i"]]}, ErrorCode.MALFORMED),
        ({"text": "x", "tags": [["i", "https://example.com", "url"]]}, ErrorCode.UNSUPPORTED_PARAM),
        ({"text": "x", "tags": [["output", "image/png"]]}, ErrorCode.UNSUPPORTED_PARAM),
        ({"text": "x", "tags": [["param", "messages", "json"]]}, ErrorCode.MALFORMED),
        ({"text": "[" * 200_000, "tags": [["param", "messages", "json"]]}, ErrorCode.TOO_LARGE),
    ],
)
def test_what_is_inside_is_checked_too(payload, code):
    assert refusal(sealed(payload)) is code


def test_an_unknown_encoding_is_malformed():
    assert refusal(sealed({"text": "x"}, ("encoding", "brotli"))) is ErrorCode.MALFORMED


def test_an_illegible_expiration_is_malformed():
    assert refusal(ex.plain_request("hi", ("expiration", "tomorrow"))) is ErrorCode.MALFORMED
    assert parse_request(ex.plain_request("hi", ("expiration",)), ex.PROVIDER_KEYS).job.expiration is None


@pytest.mark.parametrize("form", ["private", "open"])
def test_a_deadline_in_the_far_future_is_read_as_one_that_an_answer_can_outlive(form):
    job = replace(SECRETS, expiration=10**16 - 1)
    draft = private(job) if form == "private" else open_draft(job, None, salt="5a", created_at=ex.NOW)
    deadline = parse_request(ex.CUSTOMER.sign(draft), ex.PROVIDER_KEYS).job.expiration
    assert deadline == ex.NOW + 366 * 24 * 3_600
    answer = Feedback(replace(ex.ADDRESS, expiration=deadline + 3_600), Status.PROCESSING)
    assert feedback_draft(answer, ex.PROVIDER_KEYS, created_at=ex.NOW)


def test_a_bare_list_of_tags_is_the_encrypted_form_of_nip90():
    event = sealed(
        [["i", "what is it?", "text"], ["param", "top-k", "5"]], ("bid", "700"), ("output", "text/markdown")
    )
    received = parse_request(event, ex.PROVIDER_KEYS)
    assert received.job == JobRequest(
        "what is it?", JobParameters(top_k=5), RLM_REQUEST, output="text/markdown", bid=Msat(700)
    )


def test_parameters_outside_of_a_private_request_count_for_nothing():
    assert (
        parse_request(sealed({"text": "x"}, ("param", "model", "y")), ex.PROVIDER_KEYS).job.parameters.model is None
    )


@pytest.mark.parametrize("type_", [(), ("text",), ("prompt",), ("text", "", "context")])
def test_plain_inputs_are_the_prompt(type_):
    event = ex.CUSTOMER.sign(EventDraft(TEXT_REQUEST, "", (("i", "hello", *type_),), ex.NOW))
    received = parse_request(event, ex.PROVIDER_KEYS)
    assert received.job == JobRequest("hello", kind=TEXT_REQUEST)


def test_several_plain_inputs_are_joined_in_order():
    assert parse_request(ex.plain_request("one", ("i", "two", "text")), ex.PROVIDER_KEYS).job.text == "one\ntwo"


def test_the_content_is_an_input_once():
    named = ("i", "", "text", "", "content")
    once, twice = (
        ex.CUSTOMER.sign(EventDraft(TEXT_REQUEST, "long", (("i", "first", "text"), *(named,) * times), ex.NOW))
        for times in (1, 2)
    )
    assert parse_request(once, ex.PROVIDER_KEYS).job.text == "first\nlong"
    assert refusal(twice) is ErrorCode.MALFORMED


def test_a_request_without_an_input_is_malformed():
    event = ex.CUSTOMER.sign(EventDraft(TEXT_REQUEST, "prompt?", (), ex.NOW))
    assert refusal(event) is ErrorCode.MALFORMED
    tags = (("p", ex.PROVIDER.public), ("encrypted",))
    for nothing in (b"[]", b"{}", b'{"text": "", "tags": [["param", "max_tokens", "20"]]}'):
        content = ex.CUSTOMER_KEYS.encrypt(ex.PROVIDER.public, nothing)
        assert refusal(ex.CUSTOMER.sign(EventDraft(TEXT_REQUEST, content, tags, ex.NOW))) is ErrorCode.MALFORMED


@pytest.mark.parametrize("type_", ["url", "event", "job", "TEXT"])
def test_inputs_that_would_have_to_be_fetched_are_not_taken(type_):
    event = ex.CUSTOMER.sign(EventDraft(TEXT_REQUEST, "", (("i", "https://example.com", type_),), ex.NOW))
    assert refusal(event) is ErrorCode.UNSUPPORTED_PARAM


def test_a_request_may_name_several_providers_or_nobody():
    others = ("aa" * 32, ex.PROVIDER.public)
    received = parse_request(ex.plain_request("hi", *(("p", key) for key in others)), ex.PROVIDER_KEYS)
    assert received.providers == others
    assert parse_request(ex.plain_request(), ex.PROVIDER_KEYS).providers == ()


def test_another_version_of_the_schema_is_served_as_plain_nip90():
    plain = parse_request(ex.plain_request("hi"), ex.PROVIDER_KEYS).job
    assert parse_request(ex.plain_request("hi", ("v", "pylon/2")), ex.PROVIDER_KEYS).job == plain


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "[1]", '[{"role":"user"}]', '[{"role":"tool","content":"x"}]', '[{"role":"user","content":[]}]'],
)
def test_a_chat_that_is_none_is_malformed(text):
    with pytest.raises(RequestError) as caught:
        parse_messages(text)
    assert caught.value.code is ErrorCode.MALFORMED


def test_a_chat_is_pairs_of_role_and_content():
    text = '[{"role":"system","content":"brief"},{"role":"user","content":"hi","name":"ann"}]'
    assert parse_messages(text) == (("system", "brief"), ("user", "hi"))


def test_parameters_that_nothing_can_be_looked_up_by_are_malformed():
    with pytest.raises(RequestError) as caught:
        private(JobRequest("q", JobParameters(stop=["halt!"])))  # type: ignore[arg-type]  # a caller without types
    assert caught.value.code is ErrorCode.MALFORMED


def test_an_acknowledgement_without_its_values_is_not_passed_over():
    good = ("account-seen", "0" * 16, "1", "5")
    assert refusal(sealed({"text": "q", "tags": [["account-seen"], good]})) is ErrorCode.MALFORMED


def test_the_first_of_several_values_counts():
    tags = [["bid"], ["bid", "5"], ["bid", "6"]]
    assert parse_request(sealed({"text": "q", "tags": tags}), ex.PROVIDER_KEYS).job.bid == Msat(5)


def test_what_was_asked_before_changes_neither_what_is_written_nor_what_is_refused():
    private(JobRequest("a", JobParameters(temperature=1, max_tokens=1)))
    with pytest.raises(RequestError):
        private(JobRequest("a", JobParameters(max_tokens=True)))
    with pytest.raises(RequestError):
        private(JobRequest("a", JobParameters(temperature=True)))
    event = ex.CUSTOMER.sign(private(JobRequest("a", JobParameters(temperature=1.0))))
    inside = open_payload(ex.PROVIDER_KEYS, ex.CUSTOMER.public, event.content, event.tag("encoding"))
    assert ("param", "temperature", "1.0") in inside.tags


@pytest.mark.parametrize("said", ["Text/Plain", "TEXT/MARKDOWN", "Application/JSON"])
def test_a_media_type_is_the_same_in_any_case(said):
    event = ex.CUSTOMER.sign(EventDraft(5050, "", (("i", "a", "text"), ("output", said)), ex.NOW))
    assert parse_request(event, ex.PROVIDER_KEYS).job.output == said.lower()
