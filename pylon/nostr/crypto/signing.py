"""BIP-340 signing with a key pair that is made once.

coincurve makes the pair for every signature, which costs as much as signing, and verifies each signature, which costs
twice that. BIP-340 recommends verifying where an attacker can cause faults in the processor while it signs; here each
signature has a fresh nonce, and a relay refuses an invalid one. So this calls libsecp256k1 directly, through
coincurve's binding.

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
        """`secret` is 32 bytes, a number above 0 and below the curve's order. Raises `MalformedError` otherwise."""
        self._pair = ffi.new("secp256k1_keypair *")
        if len(secret) != 32 or not lib.secp256k1_keypair_create(_CONTEXT, self._pair, secret):
            raise MalformedError("a secret key is 32 bytes, a number above 0 and below the order of secp256k1")

    def sign(self, message: bytes, randomness: bytes) -> bytes:
        """The signature, 64 bytes, of a 32-byte message. `randomness` is 32 bytes, fresh for each signature.

        Raises `ValueError` for other lengths.
        """
        if len(message) != 32 or len(randomness) != 32:
            # The library reads 32 bytes of each without a check.
            raise ValueError("BIP-340 signs 32 bytes, with 32 bytes of randomness")
        signature = ffi.new("unsigned char[64]")
        if not lib.secp256k1_schnorrsig_sign32(_CONTEXT, signature, message, self._pair, randomness):
            raise ValueError("libsecp256k1 did not sign")
        return bytes(ffi.buffer(signature))
