"""Key agreement on secp256k1 (ECDH): the x coordinate of the shared point, unhashed, as NIP-44 and NIP-04 use it.

libsecp256k1 computes it in a fraction of the time that OpenSSL takes, and in constant time, but hashes the result.
The hash function can be replaced by a C callback, and ours copies the x coordinate as it is.

Some hardened systems do not allow a process to make such a callback. There the library's other multiplication is
used, whose time depends on its factor. So that is never the secret: the point is multiplied by secret + mask and by
-mask, with a mask drawn from the operating system each time, and the two results are added. Each factor alone is
uniformly random, so their times say nothing about the secret.
"""

import ctypes
import secrets
from typing import Any

from coincurve import PublicKey
from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT

from pylon.errors import MalformedError
from pylon.nostr.crypto.point import point_of
from pylon.nostr.event import is_hex64
from pylon.nostr.keys import SecretKey

_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_CONTEXT = GLOBAL_CONTEXT.ctx

_HASH = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


def _keep_x(output: int, x: int, _y: int, _data: int | None) -> int:
    ctypes.memmove(output, x, 32)
    return 1


def shared_x(secret: SecretKey, peer: str) -> bytes:
    """The shared x coordinate, 32 bytes, of this secret and the peer's public key (64 hex characters).

    Raises `MalformedError` for an invalid public key. Source: NIP-44 "Calculate a conversation key", BIP-340.
    """
    if not is_hex64(peer):
        raise MalformedError("a public key is 64 lower-case hex characters")
    try:
        point = point_of(peer).whole
    except ValueError as error:
        raise MalformedError("this public key is not a point of the curve") from error
    return _by_callback(secret, point) or _by_masks(secret, point)


def _by_callback(secret: SecretKey, point: PublicKey) -> bytes | None:
    if _CALLBACK is None:
        return None
    x = ffi.new("unsigned char[32]")
    done = lib.secp256k1_ecdh(_CONTEXT, x, point.public_key, secret.secret_bytes, _CALLBACK[1], ffi.NULL)
    # It fails when an interrupt, such as Ctrl-C, was raised inside the callback.
    return bytes(ffi.buffer(x)) if done else None


def _by_masks(secret: SecretKey, point: PublicKey) -> bytes:
    number = int.from_bytes(secret.secret_bytes)
    masked = mask = 0
    while not masked:
        mask = 1 + secrets.randbelow(_ORDER - 1)
        masked = (number + mask) % _ORDER
    shares = [point.multiply(factor.to_bytes(32)) for factor in (masked, _ORDER - mask)]
    return PublicKey.combine_keys(shares).format()[1:]


def _callback() -> tuple[object, Any] | None:
    """The callback and its address for C; None where none can be made. Both are kept for as long as it is used."""
    try:
        function = _HASH(_keep_x)
    except (MemoryError, OSError):
        return None
    address = ctypes.cast(function, ctypes.c_void_p).value
    kind = "int (*)(unsigned char *, unsigned char *, unsigned char *, void *)"
    return function, ffi.cast(kind, address)


_CALLBACK = _callback()
