"""Other people's code as the other side: nostr-sdk and pynostr know nothing of `pylon/1`."""

from dataclasses import replace

import nostr_sdk as sdk
import orjson
import pynostr.event
import pynostr.key
import pytest

from pylon.jobs.answer import Amount
from pylon.jobs.codes import ErrorCode, RequestError
from pylon.jobs.feedback import Feedback, Status, feedback_draft, parse_feedback
from pylon.jobs.parameters import JobParameters
from pylon.jobs.request import JobRequest, is_nip04, open_draft, parse_request, private_draft
from pylon.jobs.result import Finish, JobResult, parse_result, result_draft
from pylon.money.msat import Msat
from pylon.nostr.event import Event, loads_event, verify

from . import examples as ex

TAGS = (
    ("i", "What is the capital of France?", "text"),
    ("param", "model", "needle-1"),
    ("param", "max_tokens", "32"),
    ("param", "temperature", "0.5"),
    ("param", "top-k", "50"),
    ("output", "text/plain"),
    ("bid", "5000"),
    ("relays", "wss://relay.example.com"),
    ("t", "bitcoin"),
)
ASKED = JobRequest(
    "What is the capital of France?",
    JobParameters(model="needle-1", max_tokens=32, temperature=0.5, top_k=50),
    5050,
    bid=Msat(5_000),
)


def by_nostr_sdk(kind: int, content: str, tags: tuple[tuple[str, ...], ...]) -> Event:
    keys = sdk.Keys.parse(ex.CUSTOMER.secret_bytes.hex())
    builder = sdk.EventBuilder(sdk.Kind(kind), content).tags([sdk.Tag.parse(list(tag)) for tag in tags])
    return loads_event(builder.finalize(keys).as_json())


def by_pynostr(kind: int, content: str, tags: tuple[tuple[str, ...], ...]) -> Event:
    key = pynostr.key.PrivateKey(ex.CUSTOMER.secret_bytes)
    event = pynostr.event.Event(content, key.public_key.hex(), ex.NOW, kind, [list(tag) for tag in tags])
    event.sign(key.hex())
    return loads_event(orjson.dumps(event.to_dict()))


MAKERS = pytest.mark.parametrize("make", [by_nostr_sdk, by_pynostr])


def read_by_both(event: Event) -> sdk.Event:
    """The event, once both have found its id and signature good."""
    parsed = sdk.Event.from_json(event.to_json().decode())
    assert parsed.verify()
    theirs = pynostr.event.Event.from_dict(orjson.loads(event.to_json()))
    assert theirs.id == event.id
    assert theirs.verify()
    return parsed


def tags_of(event: sdk.Event) -> dict[str, list[str]]:
    return {tag.to_vec()[0]: tag.to_vec()[1:] for tag in event.tags()}


@MAKERS
def test_a_plain_customers_request_is_read(make):
    event = make(5050, "", TAGS)
    verify(event)
    received = parse_request(event, ex.PROVIDER_KEYS)
    assert received.job == ASKED
    assert (received.customer, received.private, received.providers) == (ex.CUSTOMER.public, False, ())


@MAKERS
def test_the_registrys_own_spelling_of_an_input_is_read(make):
    event = make(5050, "", (("i", "what is the capital of France? ", "prompt"), ("p", ex.PROVIDER.public)))
    received = parse_request(event, ex.PROVIDER_KEYS)
    assert (received.job.text, received.providers) == ("what is the capital of France? ", (ex.PROVIDER.public,))


@MAKERS
@pytest.mark.parametrize(
    "text", ["Paris", "Łódź – \U0001f600\n\ttabs", 'quotes " and \\ slashes / <b>', "x" * 90_000]
)
def test_our_open_result_is_a_valid_result_to_a_plain_customer(make, text):
    request = make(5050, "", TAGS)
    address = replace(ex.ADDRESS, request=request.id, private=False)
    result = JobResult(address, 6050, text, amount=Amount(Msat(1_000), "lnbcrt10n1"), finish=Finish.STOP)
    event = ex.PROVIDER.sign(result_draft(result, ex.PROVIDER_KEYS, request=request, created_at=ex.NOW))
    parsed = read_by_both(event)
    tags = tags_of(parsed)
    assert parsed.kind().as_u16() == 6050
    assert text.startswith(parsed.content())
    assert tags["e"] == [request.id]
    assert tags["p"] == [ex.CUSTOMER.public]
    assert tags["amount"] == ["1000", "lnbcrt10n1"]
    if text != "x" * 90_000:
        assert tags["i"] == list(TAGS[0][1:])
        assert sdk.Event.from_json(tags["request"][0]).verify()


def test_our_feedback_is_feedback_to_a_plain_customer():
    address = replace(ex.ADDRESS, private=False)
    feedback = Feedback(address, Status.ERROR, ErrorCode.BUSY, "12 jobs wait here already")
    parsed = read_by_both(ex.PROVIDER.sign(feedback_draft(feedback, ex.PROVIDER_KEYS, created_at=ex.NOW)))
    assert tags_of(parsed)["status"] == ["error", "busy"]
    assert parsed.content() == "12 jobs wait here already"


@MAKERS
def test_a_plain_providers_answer_is_read(make):
    about = (("e", ex.REQUEST_ID, "wss://relay.example.com"), ("p", ex.CUSTOMER.public))
    result = parse_result(make(6050, "Paris", (*about, ("amount", "1000"))), ex.CUSTOMER_KEYS)
    assert (result.text, result.amount, result.model) == ("Paris", Amount(Msat(1_000)), None)
    feedback = parse_feedback(make(7000, "", (*about, ("status", "processing", "thinking"))), ex.CUSTOMER_KEYS)
    assert (feedback.status, feedback.text) == (Status.PROCESSING, "thinking")


def test_our_open_request_is_a_request_to_a_plain_provider():
    parsed = read_by_both(ex.CUSTOMER.sign(open_draft(ASKED, ex.PROVIDER.public, salt="5a", created_at=ex.NOW)))
    assert tags_of(parsed)["i"] == ["What is the capital of France?", "text"]
    assert tags_of(parsed)["bid"] == ["5000"]


def test_an_expiration_of_ours_is_one_to_others():
    job = replace(ASKED, expiration=1)
    assert read_by_both(ex.CUSTOMER.sign(open_draft(job, None, salt="5a", created_at=0))).is_expired()
    job = replace(ASKED, expiration=2**40)
    assert not read_by_both(ex.CUSTOMER.sign(open_draft(job, None, salt="5a", created_at=0))).is_expired()


def test_nostr_sdk_opens_what_we_seal():
    job = replace(ASKED, text="short", parameters=JobParameters())
    event = ex.CUSTOMER.sign(private_draft(job, ex.PROVIDER.public, ex.CUSTOMER_KEYS, created_at=ex.NOW))
    read_by_both(event)
    opened = sdk.nip44_decrypt(
        sdk.SecretKey.parse(ex.PROVIDER.secret_bytes.hex()), sdk.PublicKey.parse(ex.CUSTOMER.public), event.content
    )
    assert orjson.loads(opened) == {"text": "short", "tags": [["i", "", "text"], ["bid", "5000"]]}


def test_we_open_what_nostr_sdk_seals():
    payload = orjson.dumps({"text": "What?", "tags": [["param", "seed", "7"]]}).decode()
    content = sdk.nip44_encrypt(
        sdk.SecretKey.parse(ex.CUSTOMER.secret_bytes.hex()),
        sdk.PublicKey.parse(ex.PROVIDER.public),
        payload,
        sdk.Nip44Version.V2,
    )
    event = by_nostr_sdk(5940, content, (("p", ex.PROVIDER.public), ("encrypted",), ("v", "pylon/1")))
    assert parse_request(event, ex.PROVIDER_KEYS).job == JobRequest("What?", JobParameters(seed=7))


def sealed_as_nip_90_has_it(tags: list[list[object]], *outside: tuple[str, ...]) -> Event:
    content = ex.CUSTOMER_KEYS.encrypt(ex.PROVIDER.public, orjson.dumps(tags))
    return by_nostr_sdk(5050, content, (("p", ex.PROVIDER.public), ("encrypted",), *outside))


def opened_by_nostr_sdk(event: sdk.Event) -> str:
    return sdk.nip44_decrypt(sdk.SecretKey.parse(ex.CUSTOMER.secret_bytes.hex()), event.author(), event.content())


@pytest.mark.parametrize("text", ["Paris", "x" * 60_000])
def test_a_plain_customer_of_a_sealed_request_opens_the_text_itself(text):
    request = sealed_as_nip_90_has_it([["i", "the prompt", "text"]], ("i", "said outside", "text"))
    received = parse_request(request, ex.PROVIDER_KEYS)
    result = replace(ex.RESULT, address=replace(ex.ADDRESS, request=request.id), kind=6050, text=text)
    draft = result_draft(result, ex.PROVIDER_KEYS, request=request, created_at=ex.NOW, plain=received.plain)
    parsed = read_by_both(ex.PROVIDER.sign(draft))
    assert text.startswith(opened_by_nostr_sdk(parsed))
    tags = tags_of(parsed)
    assert tags.keys() == {"e", "p", "encrypted", "amount", "request", "v", "expiration"}
    assert tags["amount"] == ["1500", "lnbcrt15n1example"]


@pytest.mark.parametrize("text", ["12 jobs wait here already", ""])
def test_a_plain_customer_of_a_sealed_request_sees_how_its_job_stands(text):
    feedback = replace(ex.FEEDBACK, text=text)
    draft = feedback_draft(feedback, ex.PROVIDER_KEYS, created_at=ex.NOW, plain=True)
    parsed = read_by_both(ex.PROVIDER.sign(draft))
    tags = tags_of(parsed)
    assert (tags["status"], tags["amount"], tags["offset"]) == (["error", "busy"], ["9", "lnbcrt1"], ["0"])
    assert ("encrypted" in tags) == bool(text)
    assert (opened_by_nostr_sdk(parsed) if text else parsed.content()) == text


def test_only_a_request_that_says_pylon_1_is_of_who_knows_it():
    own = ex.CUSTOMER.sign(private_draft(ASKED, ex.PROVIDER.public, ex.CUSTOMER_KEYS, created_at=ex.NOW))
    assert not parse_request(own, ex.PROVIDER_KEYS).plain
    assert parse_request(sealed_as_nip_90_has_it([["i", "x"]], ("v", "pylon/2")), ex.PROVIDER_KEYS).plain
    assert not parse_request(sealed_as_nip_90_has_it([["i", "x"]], ("v", "pylon/1")), ex.PROVIDER_KEYS).plain


def test_numbers_in_a_sealed_list_of_tags_are_read_as_text():
    # JSON has one kind of number: 20 and 20.0 are the same.
    for tokens in (20, 20.0):
        tags = [["i", "x"], ["param", "max_tokens", tokens], ["param", "temperature", 0.5]]
        received = parse_request(sealed_as_nip_90_has_it(tags), ex.PROVIDER_KEYS)
        assert (received.job.parameters.max_tokens, received.job.parameters.temperature) == (20, 0.5)


@pytest.mark.parametrize("value", [20.5, 1e300, -0.5, 2.0**64])
def test_a_number_that_no_whole_one_can_be_is_no_number_of_tokens(value):
    with pytest.raises(RequestError) as refused:
        parse_request(sealed_as_nip_90_has_it([["i", "x"], ["param", "max_tokens", value]]), ex.PROVIDER_KEYS)
    assert refused.value.code is ErrorCode.MALFORMED


@pytest.mark.parametrize("value", [True, None, [20], {"n": 20}])
def test_what_else_json_has_is_no_value_of_a_tag(value):
    with pytest.raises(RequestError) as refused:
        parse_request(sealed_as_nip_90_has_it([["i", "x"], ["param", "max_tokens", value]]), ex.PROVIDER_KEYS)
    assert refused.value.code is ErrorCode.MALFORMED


@pytest.mark.parametrize("output", ["text/plain; charset=utf-8", "text/plain;charset=UTF-8", "Text/Plain ; x"])
def test_a_media_type_may_have_parameters(output):
    received = parse_request(by_nostr_sdk(5050, "", (("i", "x"), ("output", output))), ex.PROVIDER_KEYS)
    assert received.job.output == "text/plain"


def test_a_request_sealed_with_nip_04_is_told_of_nip_44():
    keys = sdk.Keys.parse(ex.CUSTOMER.secret_bytes.hex())
    content = sdk.nip04_encrypt(keys.secret_key(), sdk.PublicKey.parse(ex.PROVIDER.public), '[["i","x"]]')
    event = by_nostr_sdk(5050, content, (("p", ex.PROVIDER.public), ("encrypted",)))
    with pytest.raises(RequestError, match="NIP-04 is not read here: seal with NIP-44") as refused:
        parse_request(event, ex.PROVIDER_KEYS)
    assert refused.value.code is ErrorCode.UNDECRYPTABLE
    assert is_nip04(event)
    assert not is_nip04(by_nostr_sdk(5050, content, (("encrypted",), ("v", "pylon/1"))))
