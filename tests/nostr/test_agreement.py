"""Key agreement, against an independent implementation of ECDH."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pylon.errors import MalformedError
from pylon.nostr.crypto import agreement
from pylon.nostr.crypto.agreement import shared_x
from pylon.nostr.keys import SecretKey

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

PEER = SecretKey(b"\x07" * 32).public

numbers = st.one_of(st.sampled_from([1, 2, ORDER - 2, ORDER - 1]), st.integers(1, ORDER - 1))


@pytest.fixture(params=["with a callback", "without one"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without one":
        monkeypatch.setattr(agreement, "_CALLBACK", None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mine=numbers, theirs=numbers)
@pytest.mark.usefixtures("way")
def test_it_is_the_x_that_openssl_reaches(mine: int, theirs: int) -> None:
    peer = SecretKey(theirs.to_bytes(32)).public
    curve = ec.SECP256K1()
    point = ec.EllipticCurvePublicKey.from_encoded_point(curve, b"\x02" + bytes.fromhex(peer))
    expected = ec.derive_private_key(mine, curve).exchange(ec.ECDH(), point)
    assert shared_x(SecretKey(mine.to_bytes(32)), peer) == expected


@given(numbers, st.lists(st.integers(0, ORDER - 2), min_size=1, max_size=3))
def test_no_mask_changes_what_comes_out(number: int, masks: list[int]) -> None:
    key = SecretKey(number.to_bytes(32))
    expected = shared_x(key, PEER)
    # What would leave nothing to multiply by is drawn again: the mask that is the secret's negative.
    drawn = iter([ORDER - number - 1, *masks, 41])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "_CALLBACK", None)
        patch.setattr(agreement.secrets, "randbelow", lambda _: next(drawn))
        assert shared_x(key, PEER) == expected
    # The first two of them, and more where one of these is such a mask too.
    assert len(list(drawn)) <= len(masks)


def test_where_no_callback_can_be_made_the_secret_itself_is_never_multiplied_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(agreement, "_HASH", refused)
    monkeypatch.setattr(agreement, "_CALLBACK", agreement._callback())
    seen: list[bytes] = []

    multiply = agreement.PublicKey.multiply

    def watched(point: agreement.PublicKey, scalar: bytes, update: bool = False) -> agreement.PublicKey:
        seen.append(scalar)
        return multiply(point, scalar, update)

    monkeypatch.setattr(agreement.PublicKey, "multiply", watched)
    secret = SecretKey(b"\x05" * 32)
    for _ in range(8):
        shared_x(secret, PEER)
    assert secret.secret_bytes not in seen
    assert len(set(seen)) == 16


def test_a_callback_that_was_interrupted_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = SecretKey(b"\x05" * 32)
    expected = shared_x(secret, PEER)
    called = []

    def interrupted(*_: object) -> int:
        called.append(True)
        return 0

    monkeypatch.setattr(agreement, "_keep_x", interrupted)
    monkeypatch.setattr(agreement, "_CALLBACK", agreement._callback())
    assert shared_x(secret, PEER) == expected
    assert called


@pytest.mark.parametrize("peer", ["", "ff" * 32, "02" + "11" * 32, "G" * 64, "AB" * 32])
def test_what_is_no_public_key_is_refused(peer: str) -> None:
    with pytest.raises(MalformedError):
        shared_x(SecretKey(b"\x05" * 32), peer)
