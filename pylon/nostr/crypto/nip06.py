"""NIP-06: a Nostr key from the words of a seed phrase (BIP-39, then BIP-32 along m/44'/1237'/0'/0/0).

For importing a key that another program made; Pylon itself makes keys without a phrase.

Source: https://github.com/nostr-protocol/nips/blob/master/06.md
"""

import hashlib
import hmac
import unicodedata
from functools import cache
from importlib import resources

import coincurve

from pylon.errors import MalformedError
from pylon.nostr.keys import SecretKey

_LENGTHS = (12, 15, 18, 21, 24)
_HARDENED = 1 << 31
_MAX_ACCOUNT = _HARDENED - 1


def secret_key_from_words(words: str, *, passphrase: str = "", account: int = 0) -> SecretKey:
    """The key of a seed phrase of 12, 15, 18, 21 or 24 English words.

    `passphrase` is BIP-39's optional one; any passphrase gives a key, a wrong one a wrong key. `account` takes
    the place of the third number of the path. Raises `MalformedError` for an unknown word, a wrong number of
    words, or words whose checksum does not hold.
    """
    if not 0 <= account <= _MAX_ACCOUNT:
        raise MalformedError("an account is a number from 0 to 2147483647")
    phrase = unicodedata.normalize("NFKD", words).lower().split()
    _check_words(phrase)
    salt = "mnemonic" + unicodedata.normalize("NFKD", passphrase)
    try:
        seed = hashlib.pbkdf2_hmac("sha512", " ".join(phrase).encode(), salt.encode(), 2048)
    except UnicodeEncodeError:
        raise MalformedError("the passphrase is not valid Unicode") from None
    node = hmac.digest(b"Bitcoin seed", seed, "sha512")
    for index in (44 + _HARDENED, 1237 + _HARDENED, account + _HARDENED, 0, 0):
        node = _child(node, index)
    return SecretKey(node[:32])


def _check_words(phrase: list[str]) -> None:
    # No message names a word: each is a part of the secret. Its place is enough to find it.
    if len(phrase) not in _LENGTHS:
        raise MalformedError(f"a seed phrase has 12, 15, 18, 21 or 24 words, this has {len(phrase)}")
    indices = _word_indices()
    number = 0
    for place, word in enumerate(phrase, start=1):
        if word not in indices:
            raise MalformedError(f"word {place} of the seed phrase is not on the English list of BIP-39")
        number = number << 11 | indices[word]
    # 11 bits a word; one bit in 33 belongs to the checksum.
    checksum_bits = len(phrase) // 3
    entropy = (number >> checksum_bits).to_bytes(checksum_bits * 4)
    checksum = hashlib.sha256(entropy).digest()[0] >> (8 - checksum_bits)
    if number & ((1 << checksum_bits) - 1) != checksum:
        raise MalformedError("the seed phrase's checksum does not hold: a word is wrong, or two changed places")


def _child(node: bytes, index: int) -> bytes:
    # BIP-32 "Private parent key → private child key": a node is its key and its chain code, 32 bytes each.
    key, chain_code = coincurve.PrivateKey(node[:32]), node[32:]
    parent = b"\0" + key.secret if index >= _HARDENED else key.public_key.format(compressed=True)
    digest = hmac.digest(chain_code, parent + index.to_bytes(4), "sha512")
    return key.add(digest[:32]).secret + digest[32:]


@cache
def _word_indices() -> dict[str, int]:
    text = resources.files("pylon.nostr.crypto").joinpath("bip39-english.txt").read_text("ascii")
    return {word: index for index, word in enumerate(text.split())}
