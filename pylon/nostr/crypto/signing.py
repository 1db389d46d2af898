"""BIP-340 signing with a key pair that is made once.

coincurve makes the pair anew for every signature, which costs as much as signing, and then verifies what it signed,
which costs twice that. BIP-340 recommends the second where an attacker can make the processor err while it signs;
here the nonce is drawn afresh for each signature, and a relay refuses one that does not hold. So this calls the
library below coincurve, libsecp256k1, by coincurve's own binding.

Source: BIP-340 "Default Signing".
"""

from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT

from pylon.errors import MalformedError

_CONTEXT = GLOBAL_CONTEXT.ctx


class KeyPair:
    """A secret key as libsecp256k1 keeps it, with the point that belongs to it."""

    __slots__ = ("_pair",)

    def __init__(self, secret: bytes) -> None:
        """`secret` is 32 bytes, a number from 1 to the curve's order. Raises `MalformedError` otherwise."""
        self._pair = ffi.new("secp256k1_keypair *")
        if len(secret) != 32 or not lib.secp256k1_keypair_create(_CONTEXT, self._pair, secret):
            raise MalformedError("a secret key is 32 bytes, a number from 1 to the order of secp256k1")

    def sign(self, message: bytes, randomness: bytes) -> bytes:
        """The 64 bytes of a signature of 32; `randomness` is 32 bytes, new for each signature."""
        if len(message) != 32 or len(randomness) != 32:
            # The library reads 32 bytes of each, whatever is there.
            raise ValueError("BIP-340 signs 32 bytes, with 32 bytes of randomness")
        signature = ffi.new("unsigned char[64]")
        if not lib.secp256k1_schnorrsig_sign32(_CONTEXT, signature, message, self._pair, randomness):
            raise ValueError("libsecp256k1 did not sign")
        return bytes(ffi.buffer(signature))
