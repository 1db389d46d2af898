"""NIP-44 version 2: authenticated encryption between two keys, with padding that hides lengths.

Source: https://github.com/nostr-protocol/nips/blob/master/44.md

Plaintexts of 65,536 bytes and more take the extended length prefix (NIP-44 "Encryption", step 3): two zero
bytes and a 32-bit length in place of the 16-bit one.
"""

import hmac
import os
import struct
from collections import OrderedDict

import pybase64
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from pylon.errors import DecryptionError, TooLargeError
from pylon.nostr.crypto.agreement import shared_x
from pylon.nostr.crypto.sha256 import HmacSha256
from pylon.nostr.keys import SecretKey

_EXTRACT = HmacSha256(b"nip44-v2")

MAX_PLAINTEXT = 16 * 1024 * 1024
_SHORT_MAX = 0xFFFF


def conversation_key(secret: SecretKey, peer: str) -> bytes:
    """The 32 bytes both sides derive: HKDF-extract of the ECDH point's x. Raises `MalformedError`."""
    return _EXTRACT.code(shared_x(secret, peer))


class ConversationKeys:
    """The conversation keys of one secret key, by peer. The most recently used ones are kept, since key agreement
    costs more than encryption.

    Not thread-safe: a provider's answers are sealed on the thread of its event loop (`store/group`).
    """

    def __init__(self, secret: SecretKey, capacity: int = 10_000) -> None:
        self._secret = secret
        self._capacity = capacity
        self._keys: OrderedDict[str, bytes] = OrderedDict()

    @property
    def kept(self) -> int:
        """How many keys are kept."""
        return len(self._keys)

    def clear(self) -> None:
        """Drops all kept keys."""
        self._keys.clear()

    def get(self, peer: str) -> bytes:
        """The key for this public key. Raises `MalformedError`."""
        key = self._keys.get(peer)
        if key is None:
            key = self._keys[peer] = conversation_key(self._secret, peer)
            if len(self._keys) > self._capacity:
                self._keys.popitem(last=False)
        else:
            self._keys.move_to_end(peer)
        return key

    def encrypt(self, peer: str, plaintext: bytes) -> str:
        """Encrypts for the peer. Raises `TooLargeError`, `MalformedError`."""
        return encrypt(self.get(peer), plaintext)

    def decrypt(self, peer: str, payload: str) -> bytes:
        """Decrypts what the peer sent, or what we sent to it. Raises `DecryptionError`, `MalformedError`."""
        return decrypt(self.get(peer), payload)


def padded_length(length: int) -> int:
    """The bytes that a plaintext of `length` bytes is padded to (NIP-44 "Padding")."""
    if length <= 32:
        return 32
    next_power = 1 << (length - 1).bit_length()
    chunk = 32 if next_power <= 256 else next_power // 8
    return chunk * ((length - 1) // chunk + 1)


def payload_length(length: int) -> int:
    """The length in base64 characters of the payload of a plaintext of `length` bytes."""
    prefix = 2 if length <= _SHORT_MAX else 6
    return 4 * ((1 + 32 + prefix + padded_length(length) + 32 + 2) // 3)


_MIN_PAYLOAD = payload_length(1)
_MAX_PAYLOAD = payload_length(MAX_PLAINTEXT)


def encrypt(key: bytes, plaintext: bytes, *, nonce: bytes | None = None) -> str:
    """The base64 payload. `nonce` is 32 random bytes unless a test vector fixes it. Raises `TooLargeError`."""
    length = len(plaintext)
    if not 1 <= length <= MAX_PLAINTEXT:
        raise TooLargeError(f"NIP-44 takes 1 to {MAX_PLAINTEXT} bytes, this is {length}")
    nonce = os.urandom(32) if nonce is None else nonce
    prefix = struct.pack(">H", length) if length <= _SHORT_MAX else struct.pack(">HI", 0, length)
    padded = prefix + plaintext + bytes(padded_length(length) - length)
    cipher_key, cipher_nonce, mac_key = _message_keys(key, nonce)
    authentic = nonce + _chacha20(cipher_key, cipher_nonce, padded)
    mac = HmacSha256(mac_key).code(authentic)
    return pybase64.b64encode_as_string(b"".join((b"\x02", authentic, mac)))


def decrypt(key: bytes, payload: str) -> bytes:
    """The plaintext of a payload. Raises `DecryptionError` for anything that this key did not make."""
    if payload.startswith("#"):
        raise DecryptionError("this payload uses a version of NIP-44 that is not known here")
    if not _MIN_PAYLOAD <= len(payload) <= _MAX_PAYLOAD:
        raise DecryptionError("this payload is too short or too long for NIP-44")
    try:
        data = pybase64.b64decode(payload, validate=True)
    except ValueError as error:
        raise DecryptionError("this payload is not base64") from error
    # The decoder ignores the unused bits of the last character: several texts would decode to the same payload.
    last = pybase64.b64encode_as_string(data[-(len(data) % 3 or 3) :])
    if last != payload[-4:] or len(payload) != 4 * ((len(data) + 2) // 3):
        raise DecryptionError("this payload is not base64 as it is written")
    if data[0] != 2:
        raise DecryptionError("this payload uses a version of NIP-44 that is not known here")
    # Views, since copies would drive everything else out of the processor's cache.
    authentic, mac = memoryview(data)[1:-32], data[-32:]
    cipher_key, cipher_nonce, mac_key = _message_keys(key, data[1:33])
    # The code is checked before anything is decrypted, and in constant time.
    if not hmac.compare_digest(HmacSha256(mac_key).code(authentic), mac):
        raise DecryptionError("this payload was not made with this key")
    return _unpad(_chacha20(cipher_key, cipher_nonce, authentic[32:]))


def _unpad(padded: bytes) -> bytes:
    length = int.from_bytes(padded[:2])
    prefix = 2
    if length == 0:
        length = int.from_bytes(padded[2:6])
        prefix = 6
        if length <= _SHORT_MAX:
            raise DecryptionError("this payload's padding is wrong")
    if len(padded) != prefix + padded_length(length) or padded.count(0, prefix + length) != len(padded) - (
        prefix + length
    ):
        raise DecryptionError("this payload's padding is wrong")
    return padded[prefix : prefix + length]


def _message_keys(key: bytes, nonce: bytes) -> tuple[bytes, bytes, bytes]:
    # HKDF-expand (RFC 5869) to 76 bytes: ChaCha20 key, ChaCha20 nonce, HMAC key.
    code = HmacSha256(key).code
    first = code(nonce + b"\x01")
    second = code(first + nonce + b"\x02")
    third = code(second + nonce + b"\x03")
    expanded = first + second + third
    return expanded[:32], expanded[32:44], expanded[44:76]


def _chacha20(key: bytes, nonce: bytes, data: bytes | memoryview) -> bytes:
    # `cryptography` takes the 32-bit block counter in front of the 96-bit nonce of RFC 8439.
    return Cipher(ChaCha20(key, bytes(4) + nonce), mode=None).encryptor().update(data)
