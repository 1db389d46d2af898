import hashlib
import random
import unicodedata
from typing import Any

import nostr_sdk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pylon.errors import MalformedError
from pylon.nostr.bech32 import nip19
from pylon.nostr.crypto import nip06
from pylon.nostr.crypto.nip06 import secret_key_from_words

# BIP-39's and so everyone's test phrase.
ABOUT = "abandon " * 11 + "about"


def phrase(entropy: bytes) -> str:
    words = list(nip06._word_indices())
    bits = len(entropy) // 4
    number = int.from_bytes(entropy) << bits | hashlib.sha256(entropy).digest()[0] >> (8 - bits)
    count = (len(entropy) * 8 + bits) // 11
    return " ".join(words[number >> 11 * (count - 1 - i) & 2047] for i in range(count))


def test_keys_are_as_published(nips_text_vectors: Any) -> None:
    for case in nips_text_vectors["nip06"]:
        key = secret_key_from_words(case["mnemonic"])
        assert key.secret_bytes.hex() == case["sec"]
        assert key.public == case["pub"]
        assert (nip19.nsec(key), nip19.npub(key.public)) == (case["nsec"], case["npub"])


# nostr-sdk leaves out the decomposition that BIP-39 asks for, so its passphrases are given to it decomposed.
decomposed = st.text(max_size=9).map(lambda text: unicodedata.normalize("NFKD", text))


@given(st.sampled_from([16, 20, 24, 28, 32]), st.integers(0), decomposed, st.integers(0, 2**31 - 1))
@settings(max_examples=25)
def test_nostr_sdk_makes_the_same_key(size: int, seed: int, passphrase: str, account: int) -> None:
    words = phrase(random.Random(seed).randbytes(size))
    theirs = nostr_sdk.Keys.from_mnemonic(words, passphrase, account)
    ours = secret_key_from_words(words, passphrase=passphrase, account=account)
    assert ours.secret_bytes.hex() == theirs.secret_key().to_hex()


def test_case_and_spacing_do_not_matter() -> None:
    key = secret_key_from_words(ABOUT)
    assert secret_key_from_words(f"  {ABOUT.upper()}\n".replace(" ", "\t ")) == key


def test_passphrase_and_account_give_other_keys() -> None:
    keys = {secret_key_from_words(ABOUT), secret_key_from_words(ABOUT, passphrase="x")}
    assert len(keys | {secret_key_from_words(ABOUT, account=1)}) == 3


def test_a_passphrase_counts_in_its_decomposed_form() -> None:
    assert secret_key_from_words(ABOUT, passphrase="\u00e9") == secret_key_from_words(ABOUT, passphrase="e\u0301")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "has 12"),
        ("abandon " * 11, "this has 11"),
        ("abandon " * 13, "this has 13"),
        ("abandon " * 12, "checksum"),
        ("about " + "abandon " * 11, "checksum"),
        ("abandon " * 11 + "abouts", "word 12 "),
        ("abandon " * 5 + "sécret " + "abandon " * 5 + "about", "word 6 "),
        ("abandon " * 11 + "\ud800", "word 12 "),
    ],
)
def test_a_phrase_that_is_none_is_refused_without_repeating_it(words: str, message: str) -> None:
    with pytest.raises(MalformedError, match=message) as caught:
        secret_key_from_words(words)
    assert not any(word in str(caught.value) for word in words.split())


def test_a_passphrase_or_account_that_is_none_is_refused() -> None:
    for account in (-1, 2**31):
        with pytest.raises(MalformedError, match="account"):
            secret_key_from_words(ABOUT, account=account)
    with pytest.raises(MalformedError, match="Unicode"):
        secret_key_from_words(ABOUT, passphrase="\ud800")


def test_the_word_list_is_bip39s() -> None:
    words = list(nip06._word_indices())
    assert len(words) == 2048
    assert words == sorted(words)
    assert len({word[:4] for word in words}) == 2048
