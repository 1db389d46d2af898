"""The points of public keys, each found once: for the signatures of its owner and for key agreement with it.

Finding the point of a key is a square root, a seventh of the work of verifying a signature, and most of what a key
sends or is sent comes soon after something else of the same key.

Source: BIP-340 "Public Key Conversion".
"""

from functools import lru_cache

from coincurve import PublicKey, PublicKeyXOnly
from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT


class Point:
    """The point of a public key as libsecp256k1 takes it: `whole` for key agreement, `x_only` for signatures.

    Raises `ValueError` for a key that is not hexadecimal, or no point of the curve.
    """

    __slots__ = ("whole", "x_only")

    def __init__(self, key: str) -> None:
        # A Nostr key is the x coordinate of a point with an even y, which the prefix 02 says.
        self.whole = PublicKey(b"\x02" + bytes.fromhex(key))
        x_only = ffi.new("secp256k1_xonly_pubkey *")
        lib.secp256k1_xonly_pubkey_from_pubkey(GLOBAL_CONTEXT.ctx, x_only, ffi.NULL, self.whole.public_key)
        self.x_only = PublicKeyXOnly(x_only)


@lru_cache(maxsize=4_096)
def point_of(key: str) -> Point:
    """The point of a public key. Raises `ValueError` as `Point` does."""
    return Point(key)
