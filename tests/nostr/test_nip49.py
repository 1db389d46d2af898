from contextlib import suppress
from typing import Any

import nostr_sdk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pylon.errors import DecryptionError, MalformedError, TooLargeError, WireError
from pylon.nostr.bech32 import checksum as bech32
from pylon.nostr.bech32 import nip19, nip49
from pylon.nostr.bech32.nip49 import KeySecurity
from pylon.nostr.keys import SecretKey

SECRET = SecretKey(b"\3" * 32)
QUICK = 2


def test_the_published_key_decrypts(nips_text_vectors: Any) -> None:
    vector = nips_text_vectors["nip49"]
    secret = nip49.decrypt(vector["ncryptsec"], "nostr")
    assert secret.secret_bytes.hex() == "3501454135014541350145413501453fefb02227e449e57cf4d3a3ce05378683"
    assert secret.secret_bytes.hex() in vector["text"]


def test_hchacha20_is_as_published() -> None:
    # draft-irtf-cfrg-xchacha-03, section 2.2.1.
    nonce = bytes.fromhex("000000090000004a0000000031415927")
    expected = "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"
    assert nip49.hchacha20(bytes(range(32)), nonce).hex() == expected


def test_xchacha20_poly1305_is_as_published() -> None:
    # draft-irtf-cfrg-xchacha-03, appendix A.3.1.
    key, nonce = bytes(range(0x80, 0xA0)), bytes(range(0x40, 0x58))
    plaintext = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen "
        b"would be it."
    )
    ciphertext = nip49._cipher(key, nonce).encrypt(
        nip49._cipher_nonce(nonce), plaintext, bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    )
    assert ciphertext.hex() == (
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39"
        "ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9"
        "21f9664c97637da9768812f615c68b13b52e"
        "c0875924c1c7987947deafd8780acf49"
    )


@given(st.text(max_size=30))
@settings(max_examples=20)
def test_nostr_sdk_decrypts_ours(password: str) -> None:
    text = nip49.encrypt(SECRET, password, log_n=QUICK, security=KeySecurity.NOT_HANDLED_INSECURELY)
    theirs = nostr_sdk.EncryptedSecretKey.from_bech32(text)
    assert theirs.decrypt(password).to_hex() == SECRET.secret_bytes.hex()
    assert theirs.key_security() == nostr_sdk.KeySecurity.MEDIUM


# Assigned characters only: of others, two versions of Unicode's tables may make different normal forms.
@given(st.text(st.characters(exclude_categories=("Cs", "Cn")), max_size=30))
@settings(max_examples=20)
def test_we_decrypt_those_of_nostr_sdk(password: str) -> None:
    secret = nostr_sdk.SecretKey.parse(SECRET.secret_bytes.hex())
    theirs = nostr_sdk.EncryptedSecretKey(secret, password, QUICK, nostr_sdk.KeySecurity.UNKNOWN)
    assert nip49.decrypt(theirs.to_bech32(), password) == SECRET


@given(st.binary(min_size=32, max_size=32).filter(any), st.text(max_size=30))
@settings(max_examples=20)
def test_every_key_decrypts_back(secret: bytes, password: str) -> None:
    with suppress(MalformedError):
        key = SecretKey(secret)
        assert nip49.decrypt(nip49.encrypt(key, password, log_n=QUICK), password) == key


def test_spellings_of_one_password_are_one_password() -> None:
    # The pair that NIP-49 prints.
    text = nip49.encrypt(SECRET, "\u212b\u2126\u1e9b\u0323", log_n=QUICK)
    assert nip49.decrypt(text, "\u00c5\u03a9\u1e69") == SECRET


def test_a_wrong_password_is_a_decryption_error_that_repeats_nothing() -> None:
    text = nip49.encrypt(SECRET, "right horse", log_n=QUICK)
    with pytest.raises(DecryptionError) as caught:
        nip49.decrypt(text, "wrong horse")
    assert "horse" not in str(caught.value)


def test_the_default_cost_is_64_mib() -> None:
    _, data = bech32.decode(nip49.encrypt(SECRET, "x"))
    assert (data[0], data[1], data[42]) == (2, 16, KeySecurity.UNKNOWN)
    assert len(data) == 91


@given(st.integers(0, 90), st.integers(1, 255))
@settings(max_examples=60)
def test_a_key_changed_in_any_byte_is_refused(place: int, change: int) -> None:
    _, data = bech32.decode(ENCRYPTED)
    changed = bytearray(data)
    changed[place] ^= change
    # Costs that are merely high would be paid; they are tested by their bound alone.
    if place == 1 and 6 < changed[1] <= nip49.MAX_LOG_N:
        return
    with pytest.raises(WireError):
        nip49.decrypt(bech32.encode("ncryptsec", bytes(changed)), "x")


ENCRYPTED = nip49.encrypt(SECRET, "x", log_n=QUICK)


@pytest.mark.parametrize("log_n", [0, nip49.MAX_LOG_N + 1, 31, 63, 64, 255])
def test_a_cost_that_would_take_the_machines_memory_is_refused(log_n: int) -> None:
    with pytest.raises(TooLargeError, match="cost"):
        nip49.decrypt(bech32.encode("ncryptsec", bytes((2, log_n)) + bytes(89)), "x")
    with pytest.raises(TooLargeError, match="cost"):
        nip49.encrypt(SECRET, "x", log_n=log_n)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        nip19.nsec(SECRET),
        bech32.encode("ncryptsec", bytes((2, 2)) + bytes(88)),
        bech32.encode("ncryptsec", bytes(91)),
    ],
)
def test_text_that_is_no_encrypted_key_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        nip49.decrypt(text, "x")


def test_a_password_that_utf8_cannot_hold_is_refused() -> None:
    with pytest.raises(MalformedError, match="Unicode"):
        nip49.encrypt(SECRET, "\ud800", log_n=QUICK)


def test_white_space_around_an_encrypted_key_does_not_matter() -> None:
    assert nip49.decrypt(f"  {ENCRYPTED}\n", "x") == SECRET
