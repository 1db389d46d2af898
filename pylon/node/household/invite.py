"""An invite: one line that a person carries from one machine to another, `pylon1…`.

It holds a key made for this one invite, the addresses of relays, the head's public key, and when the invite expires.
Anybody who has the line can join until it is used or has expired, so it is a secret for some minutes.

Layout: bech32 (BIP-173) around type, length and value, as in NIP-19. The types are 0, the key (32 bytes); 1, a relay
(repeatable); 2, the head's public key (32 bytes); 3, the expiry (4 bytes, big-endian, Unix seconds). Others are
skipped.
"""

from dataclasses import dataclass, field

from pylon.errors import MalformedError, UsageError, WireError
from pylon.nostr.bech32 import checksum as bech32
from pylon.nostr.keys import SecretKey, check_public_key

PREFIX = "pylon"
_KEY, _RELAY, _HEAD, _END = range(4)
_MAX_RELAYS = 8


@dataclass(frozen=True, slots=True)
class Invite:
    """`secret` is the key made for this invite, `head` the public key of the inviting machine. `expires_at` is in
    Unix seconds."""

    secret: SecretKey = field(repr=False)
    head: str
    relays: tuple[str, ...]
    expires_at: int

    @property
    def key(self) -> str:
        """The public key of the invite, by which relay and head recognize it."""
        return self.secret.public


def encode(invite: Invite) -> str:
    """The invite as a line. Raises `UsageError` if a relay's address is too long for it."""
    fields = [(_KEY, invite.secret.secret_bytes), *((_RELAY, url.encode()) for url in invite.relays)]
    fields += [(_HEAD, bytes.fromhex(invite.head)), (_END, invite.expires_at.to_bytes(4, "big"))]
    if any(len(value) > 255 for _, value in fields):
        raise UsageError(
            "the relay's address is too long for an invite", hint="An address may have at most 255 bytes."
        )
    return bech32.encode(PREFIX, b"".join(bytes((kind, len(value))) + value for kind, value in fields))


def decode(line: str) -> Invite:
    """The invite in a line. Raises `UsageError`, whose message never contains the line, since it is a secret."""
    try:
        prefix, data = bech32.decode(line.strip())
        if prefix != PREFIX:
            raise MalformedError("it does not begin with pylon1")
        fields = _fields(data)
        (secret,), (head,), (end,) = fields[_KEY], fields[_HEAD], fields[_END]
        relays = tuple(url.decode("ascii") for url in fields.get(_RELAY, ())[:_MAX_RELAYS])
        if (
            not relays
            or not all(url.startswith(("ws://", "wss://")) for url in relays)
            or len(end) != 4
            or len(head) != 32
        ):
            raise MalformedError("part of it is invalid")
        check_public_key(head.hex())
        return Invite(SecretKey(secret), head.hex(), relays, int.from_bytes(end, "big"))
    except (WireError, KeyError, ValueError):
        # Not which part is wrong: the line was copied incompletely, and knowing where would not help.
        raise UsageError(
            "this is not a complete invite",
            hint=("Copy everything that `pylon invite` printed after `pylon join`, from pylon1 to the end."),
        ) from None


def _fields(data: bytes) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = {}
    at = 0
    while at < len(data):
        if at + 2 > len(data) or at + 2 + data[at + 1] > len(data):
            raise MalformedError("it is incomplete")
        found.setdefault(data[at], []).append(data[at + 2 : at + 2 + data[at + 1]])
        at += 2 + data[at + 1]
    return found
