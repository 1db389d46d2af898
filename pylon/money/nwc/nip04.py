"""NIP-04: AES-256-CBC without authentication, for wallets that know nothing newer (NIP-47 "Encryption").

The key is the unhashed x coordinate of the ECDH point. The cipher does not detect tampering: that the plaintext is
genuine follows only from the signature of its event.
"""

import base64
import binascii
import os

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from pylon.errors import DecryptionError

_BLOCK = 16
_SEPARATOR = "?iv="


def is_nip04(payload: str) -> bool:
    """Whether a payload has the form of NIP-04; the base64 of NIP-44 has no question mark."""
    return _SEPARATOR in payload


def encrypt(key: bytes, plaintext: bytes) -> str:
    """Encrypts to a payload: base64 of the ciphertext, `?iv=`, base64 of the initialization vector."""
    iv = os.urandom(_BLOCK)
    padder = PKCS7(_BLOCK * 8).padder()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    data = encryptor.update(padder.update(plaintext) + padder.finalize()) + encryptor.finalize()
    return base64.b64encode(data).decode() + _SEPARATOR + base64.b64encode(iv).decode()


def decrypt(key: bytes, payload: str) -> bytes:
    """Decrypts a payload. Raises `DecryptionError`."""
    text, separator, vector = payload.partition(_SEPARATOR)
    try:
        data, iv = base64.b64decode(text, validate=True), base64.b64decode(vector, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DecryptionError("this payload is not NIP-04") from error
    if not separator or len(iv) != _BLOCK or not data or len(data) % _BLOCK:
        raise DecryptionError("this payload is not NIP-04")
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    unpadder = PKCS7(_BLOCK * 8).unpadder()
    try:
        return unpadder.update(decryptor.update(data) + decryptor.finalize()) + unpadder.finalize()
    except ValueError as error:
        raise DecryptionError("this payload was not made with this key") from error
