"""Encryption, connection strings and messages of NIP-47, against an independent implementation."""

import pickle

import nostr_sdk
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.errors import DecryptionError, MalformedError, MoneyError, WireError
from pylon.money.nwc import nip04, nip47
from pylon.money.nwc.nip47 import Cipher, Response, Scheme
from pylon.money.nwc.uri import NwcUri, parse_uri
from pylon.nostr.crypto.agreement import shared_x
from pylon.nostr.event import EventDraft
from pylon.nostr.keys import SecretKey

ALICE, BOB = SecretKey(b"\x01" * 32), SecretKey(b"\x02" * 32)
SDK_ALICE = nostr_sdk.Keys.parse(ALICE.secret_bytes.hex())
SDK_BOB = nostr_sdk.Keys.parse(BOB.secret_bytes.hex())
EXAMPLE = (
    "nostr+walletconnect://b889ff5b1513b641e2a139f661a661364979c5beee91842f8f0ef42ab558e9d4"
    "?relay=wss%3A%2F%2Frelay.damus.io&secret=71a8c14c1407c113601079c4302dab36460f0ccd0ad506f1f2dc73b5100e4f3c"
)


# --- NIP-04 ---------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_nip04_decrypts_what_it_encrypted(plaintext):
    payload = nip04.encrypt(shared_x(ALICE, BOB.public), plaintext)
    assert nip04.is_nip04(payload)
    assert nip04.decrypt(shared_x(BOB, ALICE.public), payload) == plaintext


def test_nip04_and_nostr_sdk_understand_each_other():
    ours = nip04.encrypt(shared_x(ALICE, BOB.public), "ナンセンス".encode())
    assert nostr_sdk.nip04_decrypt(SDK_BOB.secret_key(), SDK_ALICE.public_key(), ours) == "ナンセンス"
    theirs = nostr_sdk.nip04_encrypt(SDK_BOB.secret_key(), SDK_ALICE.public_key(), "ナンセンス")
    assert nip04.decrypt(shared_x(ALICE, BOB.public), theirs).decode() == "ナンセンス"


@pytest.mark.parametrize("payload", ["", "?iv=", "AAAA?iv=AAAA", "!?iv=!", "A" * 24 + "?iv=" + "A" * 22 + "==", "zz"])
def test_what_is_not_nip04_is_refused(payload):
    with pytest.raises(DecryptionError):
        nip04.decrypt(b"\x01" * 32, payload)


def test_nip04_with_no_point_of_the_curve_is_malformed():
    with pytest.raises(MalformedError):
        shared_x(ALICE, "ff" * 32)


# --- the connection string -----------------------------------------------------------------------------------------


def test_the_example_of_the_nip_is_read():
    uri = parse_uri(EXAMPLE)
    theirs = nostr_sdk.NostrWalletConnectUri.parse(EXAMPLE)
    assert uri.wallet == theirs.public_key().to_hex()
    assert uri.relays == ("wss://relay.damus.io",)
    assert uri.secret.secret_bytes.hex() == theirs.secret().to_hex()
    assert uri.reveal() == EXAMPLE


def test_nostr_sdk_reads_what_we_write():
    uri = NwcUri(BOB.public, ("ws://127.0.0.1:7777", "wss://two.example/path?x=1&y=2"), ALICE, "me@example.org")
    theirs = nostr_sdk.NostrWalletConnectUri.parse(uri.reveal())
    assert [str(r) for r in theirs.relays()] == ["ws://127.0.0.1:7777", "wss://two.example/path?x=1&y=2"]
    assert (theirs.public_key().to_hex(), theirs.lud16()) == (BOB.public, "me@example.org")
    assert parse_uri(uri.reveal()) == uri


def test_the_secret_is_never_shown():
    uri = parse_uri(EXAMPLE)
    secret = uri.secret.secret_bytes.hex()
    for shown in (repr(uri), str(uri), f"{uri}", repr([uri]), repr(uri.secret)):
        assert secret not in shown
    with pytest.raises(TypeError):
        pickle.dumps(uri)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://example.org",
        EXAMPLE.replace("nostr+walletconnect", "nostr+wallet"),
        EXAMPLE.replace("b889", "zzzz"),
        EXAMPLE.replace("secret=", "sekret="),
        EXAMPLE.replace("secret=71", "secret="),
        EXAMPLE + "&secret=" + "11" * 32,
        EXAMPLE.replace("71a8c14c1407c113601079c4302dab36460f0ccd0ad506f1f2dc73b5100e4f3c", "0" * 64),
        EXAMPLE.replace("relay=", "r="),
        EXAMPLE.replace("wss", "http"),
        EXAMPLE + "&relay=" + "x" * 3_000,
        "nostr+walletconnect://[",
    ],
)
def test_a_broken_connection_string_is_refused_without_repeating_it(text):
    with pytest.raises(MoneyError) as caught:
        parse_uri(text)
    assert "71a8c14c" not in str(caught.value) + caught.value.hint
    assert caught.value.hint


# --- messages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", Scheme)
def test_a_request_and_its_answer_survive_the_wire(scheme):
    ours, theirs = Cipher(ALICE, BOB.public), Cipher(BOB, ALICE.public)
    draft = nip47.request_draft(ours, scheme, "get_balance", {"a": 1}, now=100, expires_at=160)
    event = ALICE.sign(draft)
    assert (event.kind, event.tag("p"), event.tag("expiration")) == (23194, BOB.public, "160")
    assert event.tag("encryption") == ("nip44_v2" if scheme is Scheme.NIP44 else None)
    assert not nip47.is_expired(event, 160)
    assert nip47.is_expired(event, 160.1)
    request = nip47.parse_request(event, theirs)
    assert (request.method, request.params, request.scheme) == ("get_balance", {"a": 1}, scheme)
    answer = BOB.sign(nip47.response_draft(theirs, scheme, event.id, Response("get_balance", {"balance": 7})))
    assert (answer.kind, answer.tag("p"), answer.tag("e")) == (23195, ALICE.public, event.id)
    assert nip47.parse_response(answer, ours) == Response("get_balance", {"balance": 7})
    error = Response("get_balance", error="RESTRICTED", message="no")
    assert nip47.parse_response(BOB.sign(nip47.response_draft(theirs, scheme, event.id, error)), ours) == error


def test_the_payload_of_a_request_is_what_nostr_sdk_decrypts():
    cipher = Cipher(ALICE, BOB.public)
    wanted = '{"method":"get_info","params":{}}'
    ours = cipher.encrypt(Scheme.NIP44, {"method": "get_info", "params": {}})
    assert nostr_sdk.nip44_decrypt(SDK_BOB.secret_key(), SDK_ALICE.public_key(), ours) == wanted
    theirs = nostr_sdk.nip44_encrypt(SDK_BOB.secret_key(), SDK_ALICE.public_key(), wanted, nostr_sdk.Nip44Version.V2)
    assert cipher.decrypt(theirs) == (Scheme.NIP44, {"method": "get_info", "params": {}})


@pytest.mark.parametrize(
    ("tags", "content", "best"),
    [
        ((("encryption", "nip44_v2 nip04"),), "pay_invoice get_balance", Scheme.NIP44),
        ((("encryption", "nip44_v2"),), "pay_invoice", Scheme.NIP44),
        ((("encryption", "nip04"),), "pay_invoice", Scheme.NIP04),
        ((), "pay_invoice", Scheme.NIP04),
        ((("encryption", "rot13"),), "pay_invoice", Scheme.NIP04),
    ],
)
def test_the_best_encryption_is_nip44_whenever_it_is_announced(tags, content, best):
    info = nip47.parse_info(BOB.sign(EventDraft(13194, content, tags)))
    assert info.best is best
    assert "pay_invoice" in info.methods


def test_our_own_announcement_says_what_there_is():
    info = nip47.parse_info(BOB.sign(nip47.info_draft(["pay_invoice"], ["payment_sent"])))
    assert info.methods == {"pay_invoice", "notifications"}
    assert info.notifications == {"payment_sent"}
    assert info.schemes == set(Scheme)


@pytest.mark.parametrize(
    "plain", [[], {}, {"method": 1}, {"method": "x", "params": []}, {"result_type": "x"}, "x", 5]
)
def test_a_malformed_message_raises_the_wire_error(plain):
    ours, theirs = Cipher(ALICE, BOB.public), Cipher(BOB, ALICE.public)
    event = ALICE.sign(EventDraft(23194, ours.encrypt(Scheme.NIP44, plain)))
    for parse in (nip47.parse_request, nip47.parse_response, nip47.parse_notification):
        with pytest.raises(WireError):
            parse(event, theirs)


@pytest.mark.parametrize("content", ["", "AgAA", "x?iv=y", "{}", "A" * 200_000])
def test_a_payload_that_is_not_for_us_raises_the_wire_error(content):
    with pytest.raises(WireError):
        Cipher(ALICE, BOB.public).decrypt(content)
