import base64
import hashlib
import hmac
from typing import Any

import nostr_sdk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pylon.errors import DecryptionError, MalformedError, TooLargeError
from pylon.nostr.crypto import nip44
from pylon.nostr.crypto.nip44 import ConversationKeys
from pylon.nostr.keys import SecretKey

ALICE, BOB = SecretKey(b"\1" * 32), SecretKey(b"\2" * 32)
KEY = nip44.conversation_key(ALICE, BOB.public)


def sealed(padded: bytes) -> str:
    """A payload with a valid code around any padded plaintext: what a hostile peer that holds the key can make."""
    nonce = bytes(32)
    cipher_key, cipher_nonce, mac_key = nip44._message_keys(KEY, nonce)
    ciphertext = nip44._chacha20(cipher_key, cipher_nonce, padded)
    mac = hmac.digest(mac_key, nonce + ciphertext, "sha256")
    return base64.b64encode(b"\2" + nonce + ciphertext + mac).decode()


# Published vectors


def test_conversation_keys_are_as_published(nip44_vectors: Any) -> None:
    for case in nip44_vectors["valid"]["get_conversation_key"]:
        secret = SecretKey(bytes.fromhex(case["sec1"]))
        assert nip44.conversation_key(secret, case["pub2"]).hex() == case["conversation_key"]


def test_message_keys_are_as_published(nip44_vectors: Any) -> None:
    cases = nip44_vectors["valid"]["get_message_keys"]
    for case in cases["keys"]:
        keys = nip44._message_keys(bytes.fromhex(cases["conversation_key"]), bytes.fromhex(case["nonce"]))
        assert [key.hex() for key in keys] == [case["chacha_key"], case["chacha_nonce"], case["hmac_key"]]


def test_padded_lengths_are_as_published(nip44_vectors: Any) -> None:
    for length, padded in nip44_vectors["valid"]["calc_padded_len"]:
        assert nip44.padded_length(length) == padded


def test_messages_encrypt_and_decrypt_as_published(nip44_vectors: Any) -> None:
    for case in nip44_vectors["valid"]["encrypt_decrypt"]:
        one, two = SecretKey(bytes.fromhex(case["sec1"])), SecretKey(bytes.fromhex(case["sec2"]))
        key, nonce, plaintext = nip44.conversation_key(one, two.public), case["nonce"], case["plaintext"].encode()
        assert key.hex() == case["conversation_key"]
        assert nip44.encrypt(key, plaintext, nonce=bytes.fromhex(nonce)) == case["payload"]
        assert ConversationKeys(two).decrypt(one.public, case["payload"]) == plaintext


def test_long_messages_encrypt_and_decrypt_as_published(nip44_vectors: Any) -> None:
    for case in nip44_vectors["valid"]["encrypt_decrypt_long_msg"]:
        key, plaintext = bytes.fromhex(case["conversation_key"]), (case["pattern"] * case["repeat"]).encode()
        payload = nip44.encrypt(key, plaintext, nonce=bytes.fromhex(case["nonce"]))
        assert hashlib.sha256(plaintext).hexdigest() == case["plaintext_sha256"]
        assert hashlib.sha256(payload.encode()).hexdigest() == case["payload_sha256"]
        assert nip44.decrypt(key, payload) == plaintext


def test_extended_lengths_are_as_published(nips_text_vectors: Any) -> None:
    vectors = nips_text_vectors["nip44_extended_length"]
    key, nonce = bytes.fromhex(vectors["conversation_key"]), bytes.fromhex(vectors["nonce"])
    for length, padded, plaintext_hash, payload_hash in vectors["cases"]:
        plaintext = vectors["plaintext_byte"].encode() * length
        payload = nip44.encrypt(key, plaintext, nonce=nonce)
        assert nip44.padded_length(length) == padded
        assert hashlib.sha256(plaintext).hexdigest() == plaintext_hash
        assert hashlib.sha256(payload.encode()).hexdigest() == payload_hash
        assert nip44.decrypt(key, payload) == plaintext


def test_published_invalid_keys_are_refused(nip44_vectors: Any) -> None:
    for case in nip44_vectors["invalid"]["get_conversation_key"]:
        with pytest.raises(MalformedError):
            nip44.conversation_key(SecretKey(bytes.fromhex(case["sec1"])), case["pub2"])


def test_published_invalid_payloads_are_refused(nip44_vectors: Any) -> None:
    for case in nip44_vectors["invalid"]["decrypt"]:
        with pytest.raises(DecryptionError):
            nip44.decrypt(bytes.fromhex(case["conversation_key"]), case["payload"])


def test_lengths_out_of_range_are_refused(nip44_vectors: Any) -> None:
    # The published list is older than the extended length, which made all but the empty message valid.
    assert nip44_vectors["invalid"]["encrypt_msg_lengths"] == [0, 65_536, 100_000, 10_000_000]
    for length in (0, nip44.MAX_PLAINTEXT + 1):
        with pytest.raises(TooLargeError):
            nip44.encrypt(KEY, bytes(length))


# An independent implementation


@given(st.text(min_size=1, max_size=400))
@settings(max_examples=60)
def test_nostr_sdk_decrypts_ours(plaintext: str) -> None:
    payload = ConversationKeys(ALICE).encrypt(BOB.public, plaintext.encode())
    secret = nostr_sdk.SecretKey.parse(BOB.secret_bytes.hex())
    assert nostr_sdk.nip44_decrypt(secret, nostr_sdk.PublicKey.parse(ALICE.public), payload) == plaintext


@given(st.text(min_size=1, max_size=400))
@settings(max_examples=60)
def test_we_decrypt_those_of_nostr_sdk(plaintext: str) -> None:
    secret = nostr_sdk.SecretKey.parse(BOB.secret_bytes.hex())
    peer = nostr_sdk.PublicKey.parse(ALICE.public)
    payload = nostr_sdk.nip44_encrypt(secret, peer, plaintext, nostr_sdk.Nip44Version.V2)
    assert ConversationKeys(ALICE).decrypt(BOB.public, payload) == plaintext.encode()


# Properties


@given(st.binary(min_size=1, max_size=2_000))
def test_every_message_decrypts_back_on_both_sides(plaintext: bytes) -> None:
    payload = ConversationKeys(ALICE).encrypt(BOB.public, plaintext)
    assert len(payload) == nip44.payload_length(len(plaintext))
    assert ConversationKeys(BOB).decrypt(ALICE.public, payload) == plaintext
    assert ConversationKeys(ALICE).decrypt(BOB.public, payload) == plaintext


@given(st.integers(1, 200_000))
def test_the_length_of_a_payload_is_known_beforehand(length: int) -> None:
    assert len(nip44.encrypt(KEY, bytes(length))) == nip44.payload_length(length)


@given(st.text(max_size=300) | st.binary(min_size=99, max_size=300).map(lambda data: base64.b64encode(data).decode()))
def test_decrypting_anything_raises_nothing_but_decryption_errors(payload: str) -> None:
    with pytest.raises(DecryptionError):
        nip44.decrypt(KEY, payload)


@given(st.binary(min_size=1, max_size=80), st.data())
def test_a_payload_changed_in_any_bit_is_refused(plaintext: bytes, data: st.DataObject) -> None:
    raw = bytearray(base64.b64decode(nip44.encrypt(KEY, plaintext)))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DecryptionError):
        nip44.decrypt(KEY, base64.b64encode(raw).decode())


# Traps


def test_a_payload_in_any_other_spelling_is_refused() -> None:
    # 64 padded bytes make a payload that ends in one "=", so two bits of its last character are not used.
    payload = nip44.encrypt(KEY, b"x" * 40, nonce=b"\xff" * 32)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    unused_bit = payload[:-2] + alphabet[alphabet.index(payload[-2]) + 1] + "="
    url_safe = payload.replace("/", "_")
    assert base64.b64decode(unused_bit) == base64.b64decode(payload)
    assert url_safe != payload
    others = (unused_bit, url_safe, payload[:-1], payload + "\n", " " + payload, payload + "AAAA", payload + "====")
    for other in others:
        with pytest.raises(DecryptionError):
            nip44.decrypt(KEY, other)


@pytest.mark.parametrize(
    "padded",
    [
        b"\0\5hello" + bytes(26) + b"\1",
        b"\0\5hello" + bytes(28),
        b"\0\5hello" + bytes(59),
        b"\0\x25hello" + bytes(27),
        bytes(34),
        bytes(2) + (5).to_bytes(4) + b"hello" + bytes(27),
        bytes(2) + (0xFFFF).to_bytes(4) + bytes(65_536),
        bytes(2) + (0xFFFFFFFF).to_bytes(4) + bytes(64),
    ],
    ids=[
        "not zero",
        "too long by one",
        "too long",
        "too short",
        "empty",
        "extended prefix on a short message",
        "extended prefix on the longest short message",
        "length beyond the data",
    ],
)
def test_padding_that_the_standard_does_not_make_is_refused(padded: bytes) -> None:
    with pytest.raises(DecryptionError, match=r"padding|too short"):
        nip44.decrypt(KEY, sealed(padded))


def test_the_standards_own_padding_is_accepted() -> None:
    assert nip44.decrypt(KEY, sealed(b"\0\5hello" + bytes(27))) == b"hello"


def test_a_payload_that_is_too_long_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(DecryptionError, match="too long"):
        nip44.decrypt(KEY, "A" * (nip44.payload_length(nip44.MAX_PLAINTEXT) + 4))


@pytest.mark.parametrize("peer", ["", "0" * 64, "f" * 64, BOB.public + " ", BOB.public[:-2] + " 1", "zz" * 32])
def test_a_peer_that_is_no_key_is_refused(peer: str) -> None:
    with pytest.raises(MalformedError):
        ConversationKeys(ALICE).get(peer)


def test_of_the_conversation_keys_the_most_recently_used_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    agreed: list[str] = []
    agree = nip44.conversation_key

    def counting(secret: SecretKey, peer: str) -> bytes:
        agreed.append(peer)
        return agree(secret, peer)

    monkeypatch.setattr(nip44, "conversation_key", counting)
    one, two, three = (SecretKey.generate().public for _ in range(3))
    keys = ConversationKeys(ALICE, capacity=2)
    for peer in (one, two, one, three, one, two):
        keys.get(peer)
    assert agreed == [one, two, three, two]
