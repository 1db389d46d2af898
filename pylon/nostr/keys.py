"""Secret and public keys (BIP-340), and signing. A public key is its 64 hex characters everywhere."""

import hmac
import os
import time
from typing import NoReturn

import coincurve

from pylon.errors import MalformedError
from pylon.nostr.crypto.signing import KeyPair
from pylon.nostr.event import Event, EventDraft, check_fields, event_id, is_hex64


class SecretKey:
    """A Nostr secret key. Only `public` is shown; the secret itself is read through `secret_bytes` alone."""

    __slots__ = ("_pair", "_secret", "public")

    def __init__(self, secret: bytes) -> None:
        """`secret` is 32 bytes, a number above 0 and below the curve's order. Raises `MalformedError` otherwise."""
        self._secret = bytes(secret)
        self._pair = KeyPair(self._secret)
        self.public: str = coincurve.PrivateKey(self._secret).public_key_xonly.format().hex()

    @classmethod
    def generate(cls) -> "SecretKey":
        """A new key from the operating system's randomness."""
        return cls(coincurve.PrivateKey().secret)

    @property
    def secret_bytes(self) -> bytes:
        """The 32 secret bytes: for key agreement, and for writing the key file."""
        return self._secret

    def sign(self, draft: EventDraft) -> Event:
        """The signed event; `created_at` is now when the draft has none.

        Raises `MalformedError` for a draft that peers would refuse to parse: a published event cannot be taken back.
        """
        created_at = int(time.time()) if draft.created_at is None else draft.created_at
        check_fields(created_at, draft.kind, draft.tags, draft.content)
        digest = event_id(self.public, created_at, draft.kind, draft.tags, draft.content)
        signature = self._pair.sign(digest, os.urandom(32))
        return Event(digest.hex(), self.public, created_at, draft.kind, draft.tags, draft.content, signature.hex())

    def __repr__(self) -> str:
        return f"SecretKey(public={self.public!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretKey) and hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.public)

    def __reduce__(self) -> NoReturn:
        # A pickle would be a copy of the secret that nobody meant to make.
        raise TypeError("a secret key is not pickled")


def check_public_key(value: str) -> str:
    """The key itself, if it is 64 hex characters and a point of the curve. Raises `MalformedError` otherwise."""
    if not is_hex64(value):
        raise MalformedError("a public key is 64 lower-case hex characters")
    try:
        coincurve.PublicKeyXOnly(bytes.fromhex(value))
    except ValueError as error:
        raise MalformedError("this public key is not a point of the curve") from error
    return value
