"""Signatures of a key pair that is kept, against BIP-340's published vectors and coincurve's own."""

import os

import coincurve
import pytest

from pylon.errors import MalformedError
from pylon.nostr.crypto.signing import KeyPair


def test_signatures_are_those_of_bip340(bip340_vectors: list[dict[str, str]]) -> None:
    rows = [row for row in bip340_vectors if row["secret key"] and len(row["message"]) == 64]
    assert len(rows) == 4
    for row in rows:
        pair = KeyPair(bytes.fromhex(row["secret key"]))
        signature = pair.sign(bytes.fromhex(row["message"]), bytes.fromhex(row["aux_rand"]))
        assert signature.hex() == row["signature"].lower(), row["index"]


def test_signatures_are_those_that_coincurve_makes_and_verifies() -> None:
    secret, message, randomness = os.urandom(32), os.urandom(32), os.urandom(32)
    key = coincurve.PrivateKey(secret)
    signature = KeyPair(secret).sign(message, randomness)
    assert signature == key.sign_schnorr(message, randomness)
    assert key.public_key_xonly.verify(signature, message)


@pytest.mark.parametrize("secret", [b"", b"\1" * 31, bytes(32), b"\xff" * 32], ids=["none", "short", "zero", "over"])
def test_what_is_no_secret_key_is_refused(secret: bytes) -> None:
    with pytest.raises(MalformedError):
        KeyPair(secret)


@pytest.mark.parametrize(("message", "randomness"), [(31, 32), (33, 32), (32, 31), (32, 0)])
def test_nothing_but_32_bytes_reaches_the_library(message: int, randomness: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        KeyPair(b"\1" * 32).sign(bytes(message), bytes(randomness))
