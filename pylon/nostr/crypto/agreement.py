"""Key agreement on secp256k1 (ECDH): the x of the point that both sides reach, as NIP-44 and NIP-04 want it.

libsecp256k1 reaches it in a fraction of the time that OpenSSL takes, and in a time that tells nothing of the secret,
but hashes what it found. It lets its caller hash instead, by a function for C to call, and ours keeps the x as it is.

Some hardened systems let nobody make such a function. There the library's other multiplication is used, whose time
depends on its number. So it is never given the secret: it multiplies by secret + mask and by -mask, with a mask drawn
anew from the operating system each time, and the two points are added. Each number alone is uniformly random, so how
long they take says nothing of the secret.
"""

import ctypes
import secrets
from typing import Any

from coincurve import PublicKey
from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT

from pylon.errors import MalformedError
from pylon.nostr.event import is_hex64
from pylon.nostr.keys import SecretKey

_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_CONTEXT = GLOBAL_CONTEXT.ctx

_HASH = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


def _keep_x(output: int, x: int, _y: int, _data: int | None) -> int:
    ctypes.memmove(output, x, 32)
    return 1


def shared_x(secret: SecretKey, peer: str) -> bytes:
    """The 32 bytes, unhashed, that this secret and the peer's public key (64 hex characters) have in common.

    Raises `MalformedError` for what is no public key. Source: NIP-44 "Calculate a conversation key", BIP-340.
    """
    if not is_hex64(peer):
        raise MalformedError("a public key is 64 lower-case hex characters")
    try:
        # A Nostr key is the x of a point whose y is even: 02 in front says so.
        point = PublicKey(b"\x02" + bytes.fromhex(peer))
    except ValueError as error:
        raise MalformedError("this public key is not a point of the curve") from error
    return _by_callback(secret, point) or _by_masks(secret, point)


def _by_callback(secret: SecretKey, point: PublicKey) -> bytes | None:
    if _CALLBACK is None:
        return None
    x = ffi.new("unsigned char[32]")
    done = lib.secp256k1_ecdh(_CONTEXT, x, point.public_key, secret.secret_bytes, _CALLBACK[1], ffi.NULL)
    # What interrupts a program may have hit just the callback.
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
    """The function for C, which must be kept for as long as its address is used; None where none can be made."""
    try:
        function = _HASH(_keep_x)
    except (MemoryError, OSError):
        return None
    address = ctypes.cast(function, ctypes.c_void_p).value
    kind = "int (*)(unsigned char *, unsigned char *, unsigned char *, void *)"
    return function, ffi.cast(kind, address)


_CALLBACK = _callback()
