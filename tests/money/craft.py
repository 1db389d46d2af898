"""Invoices of any shape, signed: what an honest wallet makes, and what an attacker can make."""

import hashlib
from collections.abc import Iterable, Sequence

import coincurve
from bech32 import CHARSET, bech32_encode

from pylon.money.msat import Msat
from pylon.money.playbank.make import make_invoice
from pylon.nostr.keys import SecretKey

KEY = SecretKey(bytes.fromhex("e126f68f7eafcc8b74f54d269fe206be715000f94dac067d1c04a8ca3b2db734"))
OTHER_KEY = SecretKey(b"\x07" * 32)
NOW = 1_790_000_000
HASH = hashlib.sha256(b"preimage").digest()

type Field = tuple[str, Sequence[int]]


def honest(
    sats: int = 21,
    *,
    key: SecretKey = KEY,
    currency: str = "bcrt",
    payment_hash: bytes = HASH,
    created_at: int = NOW,
    expiry_s: int = 600,
) -> str:
    return make_invoice(
        key,
        currency=currency,
        amount=Msat.from_sats(sats),
        payment_hash=payment_hash,
        payment_secret=b"\x11" * 32,
        description="work",
        created_at=created_at,
        expiry_s=expiry_s,
    )


def groups(data: bytes) -> list[int]:
    bits = len(data) * 8
    count = -(-bits // 5)
    number = int.from_bytes(data) << (count * 5 - bits)
    return [number >> 5 * (count - 1 - i) & 31 for i in range(count)]


def number(value: int, length: int | None = None) -> list[int]:
    found: list[int] = []
    while value or not found:
        found.insert(0, value & 31)
        value >>= 5
    return [0] * ((length or 0) - len(found)) + found


PLAIN: tuple[Field, ...] = (
    ("p", groups(HASH)),
    ("s", groups(b"\x11" * 32)),
    ("d", groups(b"work")),
    ("x", number(600)),
    ("9", number(1 << 14 | 1 << 8)),
)


def craft(
    fields: Iterable[Field] = PLAIN,
    *,
    prefix: str = "lnbcrt210n",
    timestamp: int = NOW,
    key: SecretKey = KEY,
    tail: Sequence[int] = (),
    signature: bytes | None = None,
) -> str:
    values = number(timestamp, 7)
    for letter, data in fields:
        values += [CHARSET.find(letter), len(data) // 32, len(data) % 32, *data]
    values += tail
    packed = 0
    for value in values:
        packed = packed << 5 | value
    padding = -len(values) * 5 % 8
    signed = prefix.encode() + (packed << padding).to_bytes((len(values) * 5 + padding) // 8)
    if signature is None:
        signature = coincurve.PrivateKey(key.secret_bytes).sign_recoverable(signed)
    return str(bech32_encode(prefix, values + groups(signature)))


def but(**changes: Sequence[int] | None) -> list[Field]:
    """The plain fields with some replaced (`_9` for the letter 9), or left out when None."""
    named = {name.strip("_"): data for name, data in changes.items()}
    kept: list[Field] = [(letter, named.pop(letter, data)) for letter, data in PLAIN]  # type: ignore[misc]
    return [(letter, data) for letter, data in [*kept, *named.items()] if data is not None]
