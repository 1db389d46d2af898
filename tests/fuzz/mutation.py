"""Hostile inputs: valid ones with something broken in them, and noise."""

import copy
import json
import random
from collections.abc import Sequence
from typing import Any

# The values on which parsers of JSON, UTF-8, numbers and lengths disagree.
TOKENS = (
    b"", b"\0", b"\n", b" ", b'"', b"\\", b"\\u0000", b"\\ud800", b"\\udfff\\ud800", b"\x7f", b"\xff",
    b"\xed\xa0\x80",
    b"\xe2\x84\xaa", b"\xd9\xa3", b"null", b"true", b"false", b"NaN", b"-0", b"-1", b"0", b"1.0", b"1e3", b"1e400",
    b"65535", b"65536", b"9007199254740991", b"9007199254740992", b"9223372036854775808", b"18446744073709551616",
    b"[", b"]", b"{", b"}", b"[]", b"{}", b",", b":", b"=", b"====", b"#", b"1", b"A" * 64, b"a" * 64, b"0" * 128,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1.0, 0.5, 65_535, 65_536, 2**53 - 1, 2**53, 2**63, 2**64, -(2**63) - 1, 1e300,
    "", "\0", "\n", "\x7f", "\u2028", "\U0010ffff", "0", "-1", "1e3", "a" * 64, "A" * 64, "f" * 64, "0" * 128,
    "x" * 2_000,
    "wss://a.example", "ws://[::1", "encrypted", "zstd", [], [[]], [""], [None], {}, {"": None}, ["p", "a" * 64],
)  # fmt: skip
_KEYS = tuple(value for value in VALUES if isinstance(value, str))
# What is small on the wire and large in memory, or deep.
BOMBS = (
    b"[",
    b"[],",
    b"{},",
    b'{"":',
    b'["",',
    b"1,",
    b'"",',
    b"1",
    b"\\u0000",
    b" ",
    b"\0",
    b"\xff",
    b"A",
    b"\x28\xb5\x2f\xfd",
)


def mutate(rng: random.Random, seeds: Sequence[bytes], limit: int) -> bytes:
    """One input of at most `limit` bytes."""
    choice = rng.random()
    if choice < 0.05:
        return rng.randbytes(rng.randrange(min(limit, 600)))
    if choice < 0.06:
        return _bomb(rng, seeds, limit)
    data = rng.choice(seeds)
    if choice < 0.45:
        data = _mutate_json(rng, data)
    if choice > 0.35:
        data = _mutate_bytes(rng, data, seeds)
    return data[:limit]


def _bomb(rng: random.Random, seeds: Sequence[bytes], limit: int) -> bytes:
    unit = rng.choice(BOMBS)
    bomb = unit * (rng.randrange(1, limit) // len(unit))
    seed = rng.choice(seeds)
    place = rng.randrange(len(seed) + 1)
    shapes = (bomb, b"[" + bomb.rstrip(b",") + b"]", seed[:place] + bomb + seed[place:])
    return rng.choice(shapes)[:limit]


def _mutate_bytes(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    mutable = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        start = rng.randrange(len(mutable) + 1)
        end = min(len(mutable), start + rng.choice((0, 1, 1, 2, 8, 64)))
        match rng.randrange(7):
            case 0 if mutable:
                mutable[rng.randrange(len(mutable))] ^= 1 << rng.randrange(8)
            case 1:
                del mutable[start:end]
            case 2:
                mutable[start:end] = rng.choice(TOKENS)
            case 3:
                mutable[start:start] = mutable[start:end] * rng.choice((1, 2, 10))
            case 4:
                other = rng.choice(seeds)
                mutable[start:] = other[rng.randrange(len(other) + 1) :]
            case 5:
                mutable[start:end] = rng.randbytes(end - start)
            case _:
                del mutable[start:]
    return bytes(mutable)


def _mutate_json(rng: random.Random, data: bytes) -> bytes:
    try:
        root = [json.loads(data)]
    except ValueError:
        return data
    for _ in range(rng.choice((1, 1, 2, 3))):
        _change_one(rng, root)
    return json.dumps(root[0], separators=(",", ":")).encode() if root else b""


def _change_one(rng: random.Random, node: Any) -> None:
    """Walks down to a random place and changes, drops or doubles what is there."""
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = rng.choice(keys)
        child = node[key]
        if not isinstance(child, dict | list) or not child or rng.random() < 0.25:
            break
        node = child
    match rng.randrange(5):
        case 0:
            del node[key]
        case 1 if isinstance(node, list):
            node.insert(key, copy.deepcopy(child))
        case 1:
            node[rng.choice(_KEYS)] = copy.deepcopy(child)
        case 2:
            node[key] = [child]
        case _:
            # A copy: later changes may go inside it.
            node[key] = copy.deepcopy(rng.choice(VALUES))
