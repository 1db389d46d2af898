"""NIP-49: a secret key encrypted with a password, `ncryptsec1…`.

Source: https://github.com/nostr-protocol/nips/blob/master/49.md
"""

import enum
import os
import struct
import unicodedata

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from pylon.errors import DecryptionError, MalformedError, TooLargeError
from pylon.nostr.bech32 import checksum as bech32
from pylon.nostr.keys import SecretKey

# scrypt takes 2**log_n KiB of memory: here 64 MiB, and a tenth of a second or two.
DEFAULT_LOG_N = 16
# 1 GiB. A text that asks for more is more likely meant to exhaust this machine's memory than to protect a key.
MAX_LOG_N = 20

_PREFIX = "ncryptsec"
_VERSION = 2
# Version, log_n, salt, nonce, key security, and the encrypted key with its tag.
_LENGTH = 1 + 1 + 16 + 24 + 1 + 48


class KeySecurity(enum.IntEnum):
    """What the program that encrypted a key knew about the key's past."""

    HANDLED_INSECURELY = 0
    NOT_HANDLED_INSECURELY = 1
    UNKNOWN = 2


def encrypt(
    secret: SecretKey, password: str, *, log_n: int = DEFAULT_LOG_N, security: KeySecurity = KeySecurity.UNKNOWN
) -> str:
    """`ncryptsec1…` of a key. `log_n` is scrypt's cost, 1 to 20; it takes 2**log_n KiB of memory.

    Raises `MalformedError` for a password that is not valid Unicode, `TooLargeError` for a `log_n` out of range.
    """
    salt, nonce, associated = os.urandom(16), os.urandom(24), bytes((security,))
    key = _password_key(password, salt, log_n)
    ciphertext = _cipher(key, nonce).encrypt(_cipher_nonce(nonce), secret.secret_bytes, associated)
    return bech32.encode(_PREFIX, bytes((_VERSION, log_n)) + salt + nonce + associated + ciphertext)


def decrypt(text: str, password: str) -> SecretKey:
    """The key. Raises `DecryptionError` for a wrong password, `MalformedError` for text that is no ncryptsec,
    `TooLargeError` for one that would take more than 1 GiB of memory.
    """
    prefix, data = bech32.decode(text.strip())
    if prefix != _PREFIX:
        raise MalformedError("an encrypted secret key starts with ncryptsec1")
    if len(data) != _LENGTH or data[0] != _VERSION:
        raise MalformedError("this encrypted secret key is of a version that is not known here")
    log_n, salt, nonce, associated, ciphertext = data[1], data[2:18], data[18:42], data[42:43], data[43:]
    key = _password_key(password, salt, log_n)
    try:
        secret = _cipher(key, nonce).decrypt(_cipher_nonce(nonce), ciphertext, associated)
    except InvalidTag:
        raise DecryptionError("the passphrase is wrong, or the encrypted key was changed") from None
    return SecretKey(secret)


def _password_key(password: str, salt: bytes, log_n: int) -> bytes:
    if not 1 <= log_n <= MAX_LOG_N:
        raise TooLargeError(f"the cost of an encrypted secret key must be from 1 to {MAX_LOG_N}, this is {log_n}")
    try:
        normal = unicodedata.normalize("NFKC", password).encode()
    except UnicodeEncodeError:
        raise MalformedError("the password is not valid Unicode") from None
    return Scrypt(salt=salt, length=32, n=1 << log_n, r=8, p=1).derive(normal)


def _cipher(key: bytes, nonce: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(hchacha20(key, nonce[:16]))


def _cipher_nonce(nonce: bytes) -> bytes:
    # draft-irtf-cfrg-xchacha-03, section 2.3: the first 16 bytes go into the subkey.
    return bytes(4) + nonce[16:]


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """The subkey that makes ChaCha20 into XChaCha20: 32 bytes from a key of 32 and a nonce of 16.

    `cryptography` has no XChaCha20. Source: draft-irtf-cfrg-xchacha-03, section 2.2.
    """
    state = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce))
    for _ in range(10):
        for column in range(4):
            _quarter_round(state, column, column + 4, column + 8, column + 12)
        for column in range(4):
            _quarter_round(state, column, (column + 1) % 4 + 4, (column + 2) % 4 + 8, (column + 3) % 4 + 12)
    return struct.pack("<8I", *state[:4], *state[12:])


def _quarter_round(state: list[int], a: int, b: int, c: int, d: int) -> None:
    for first, second, third, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        state[first] = (state[first] + state[second]) & 0xFFFFFFFF
        mixed = state[third] ^ state[first]
        state[third] = (mixed << bits | mixed >> (32 - bits)) & 0xFFFFFFFF
