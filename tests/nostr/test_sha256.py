"""`pylon.nostr.crypto.sha256` says what the standard library says."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylon.nostr.crypto.sha256 import HmacSha256, sha256


@given(st.binary(max_size=300))
def test_a_hash_is_sha256(data: bytes) -> None:
    assert sha256(data) == sha256(memoryview(data)) == hashlib.sha256(data).digest()


@given(st.binary(max_size=64), st.lists(st.binary(max_size=300), min_size=1, max_size=3))
def test_every_code_of_a_key_is_its_hmac(key: bytes, messages: list[bytes]) -> None:
    hmac_of_key = HmacSha256(key)
    for data in messages:
        assert hmac_of_key.code(data) == hmac.digest(key, data, "sha256")


def test_a_key_that_would_have_to_be_hashed_first_is_refused() -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        HmacSha256(bytes(65))
