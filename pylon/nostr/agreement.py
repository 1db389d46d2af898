"""Key agreement on secp256k1 (ECDH): the x of the point that both sides reach, as NIP-44 and NIP-04 want it.

libsecp256k1 reaches it in a fifth of the time that OpenSSL takes, but the multiplication that coincurve lets out
takes a time that depends on its number. So it is never given the secret: it multiplies by secret + mask and by -mask,
with a mask drawn anew from the operating system each time, and the two points are added. Each number alone is
uniformly random, so how long they take says nothing of the secret. (libsecp256k1's own constant-time `ecdh` hashes
its result, and takes another hash only as a callback, which hardened systems refuse to make.)
"""

import secrets

from coincurve import PublicKey

from pylon.errors import MalformedError
from pylon.nostr.event import is_hex64
from pylon.nostr.keys import SecretKey

_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


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
    number = int.from_bytes(secret.secret_bytes)
    masked = mask = 0
    while not masked:
        mask = 1 + secrets.randbelow(_ORDER - 1)
        masked = (number + mask) % _ORDER
    shares = [point.multiply(factor.to_bytes(32)) for factor in (masked, _ORDER - mask)]
    return PublicKey.combine_keys(shares).format()[1:]
