import copy
import pickle
from typing import Any

import nostr_sdk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pylon.errors import MalformedError
from pylon.nostr.event import MAX_TAGS, EventDraft, verify
from pylon.nostr.keys import SecretKey, check_public_key

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def test_public_keys_are_those_of_bip340(bip340_vectors: list[dict[str, str]]) -> None:
    rows = [row for row in bip340_vectors if row["secret key"]]
    assert rows
    for row in rows:
        assert SecretKey(bytes.fromhex(row["secret key"])).public == row["public key"].lower()


@given(st.integers(1, ORDER - 1))
@settings(max_examples=50)
def test_public_keys_are_those_of_nostr_sdk(number: int) -> None:
    secret = number.to_bytes(32)
    assert SecretKey(secret).public == nostr_sdk.Keys.parse(secret.hex()).public_key().to_hex()


@pytest.mark.parametrize("secret", [b"", b"\1" * 31, b"\1" * 33, bytes(32), ORDER.to_bytes(32), b"\xff" * 32])
def test_bytes_that_are_no_secret_key_are_refused(secret: bytes) -> None:
    with pytest.raises(MalformedError):
        SecretKey(secret)


def test_a_secret_key_shows_only_its_public_half() -> None:
    key = SecretKey.generate()
    for text in (repr(key), str(key), f"{key}", f"{[key]}"):
        assert key.secret_bytes.hex() not in text
        assert key.public in text


def test_a_secret_key_is_neither_pickled_nor_copied() -> None:
    key = SecretKey.generate()
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            attempt(key)


def test_a_secret_key_does_not_change_with_the_buffer_it_came_from() -> None:
    buffer = bytearray(b"\1" * 32)
    key = SecretKey(buffer)
    buffer[:] = b"\2" * 32
    assert key.secret_bytes == b"\1" * 32


def test_equal_secrets_are_equal_keys() -> None:
    key = SecretKey.generate()
    same = SecretKey(key.secret_bytes)
    assert key == same
    assert hash(key) == hash(same)
    assert key != SecretKey.generate()
    assert key != key.secret_bytes


def test_a_draft_without_a_time_is_signed_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.9)
    event = SecretKey.generate().sign(EventDraft(1))
    assert event.created_at == 1_700_000_000
    verify(event)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": -1},
        {"kind": 65_536},
        {"kind": True},
        {"created_at": -1},
        {"created_at": 1.5},
        {"created_at": 2**53},
        {"content": None},
        {"content": "\ud800"},
        {"tags": ((),)},
        {"tags": (("p", 1),)},
        {"tags": (("p", "\udfff"),)},
        {"tags": (("p",),) * (MAX_TAGS + 1)},
    ],
)
def test_a_draft_that_no_peer_would_parse_is_not_signed(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        SecretKey.generate().sign(EventDraft(**{"kind": 1, "created_at": 1, **changes}))


def test_a_public_key_is_a_point_of_the_curve() -> None:
    public = SecretKey.generate().public
    assert check_public_key(public) == public
    for wrong in ("", "0" * 64, "f" * 64, public.upper() + "0", public[:-1], public + "\n"):
        with pytest.raises(MalformedError):
            check_public_key(wrong)
