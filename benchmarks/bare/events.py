"""Makes and checks events with the libraries directly, and the request and result of a job in the private form."""

import os
import re
import time
from functools import lru_cache
from typing import Any

import coincurve
import orjson

from pylon.jobs.kinds import RLM_REQUEST, SCHEMA, result_kind
from pylon.nostr.crypto.sha256 import sha256
from pylon.nostr.crypto.signing import KeyPair
from pylon.nostr.event import MAX_KIND, is_hex64
from pylon.nostr.keys import SecretKey

REQUEST, RESULT = RLM_REQUEST, result_kind(RLM_REQUEST)
LIFETIME_S = 300
CHARGE_MSAT = 650

# Constants for values that differ between nodes and jobs.
_ACCOUNT = ("0123456789abcdef", "1", str(CHARGE_MSAT))
_WEIGHTS = "0123456789abcdef" * 4

_SIGNATURE = re.compile(r"[0-9a-f]{128}\Z")

type Event = dict[str, Any]


class Author:
    """A secret key that can sign and agree on keys."""

    __slots__ = ("_pair", "public", "secret")

    def __init__(self) -> None:
        self.secret = SecretKey.generate()
        self.public = self.secret.public
        self._pair = KeyPair(self.secret.secret_bytes)

    def sign(self, kind: int, tags: list[list[str]], content: str) -> Event:
        """A signed event, created now."""
        created_at = int(time.time())
        digest = sha256(orjson.dumps((0, self.public, created_at, kind, tags, content)))
        return {
            "id": digest.hex(),
            "pubkey": self.public,
            "created_at": created_at,
            "kind": kind,
            "tags": tags,
            "content": content,
            "sig": self._pair.sign(digest, os.urandom(32)).hex(),
        }


def holds(event: Any) -> bool:
    """Whether this is a valid event by NIP-01: its form, its id and its signature."""
    try:
        author, created_at, kind, tags = event["pubkey"], event["created_at"], event["kind"], event["tags"]
        content, signature = event["content"], event["sig"]
        # `type(…) is int`: JSON's true and false are ints to isinstance.
        if type(created_at) is not int or type(kind) is not int or not 0 <= kind <= MAX_KIND or created_at < 0:
            return False
        if type(content) is not str or type(tags) is not list:
            return False
        for tag in tags:
            if type(tag) is not list or not tag or not all(map(_is_text, tag)):
                return False
        digest = sha256(orjson.dumps((0, author, created_at, kind, tags, content)))
        if digest.hex() != event["id"] or not _SIGNATURE.match(signature):
            return False
        return _point(author).verify(bytes.fromhex(signature), digest)
    except (KeyError, TypeError, ValueError):
        return False


def tag(event: Event, name: str) -> str:
    """The first value of the first tag of that name, empty if there is none. The event must be valid."""
    for one in event["tags"]:
        if one[0] == name and len(one) > 1:
            return str(one[1])
    return ""


def is_over(event: Event) -> bool:
    """Whether the event has expired (NIP-40)."""
    value = tag(event, "expiration")
    return value.isdecimal() and int(value) <= time.time()


def request_text(prompt: str) -> bytes:
    """The plaintext of a request."""
    tags = [["i", "", "text"], ["param", "max_tokens", "32"], ["bid", "2000"], ["account-seen", *_ACCOUNT]]
    return orjson.dumps({"text": prompt, "tags": tags})


def request_tags(provider: str) -> list[list[str]]:
    """What stands outside."""
    return [["p", provider], ["encrypted"], ["v", SCHEMA], _expiration()]


def result_text(prompt: str) -> bytes:
    """The plaintext of the result to this prompt: an answer that names it, a receipt, and the usual tags."""
    tags = [
        ["model", "constant", _WEIGHTS, "4bit"],
        ["usage", "75", "12"],
        ["timing", "0", "0"],
        ["finish", "stop"],
        ["amount", str(CHARGE_MSAT)],
        ["account", *_ACCOUNT, str(CHARGE_MSAT), "0"],
    ]
    return orjson.dumps({"text": answer(prompt), "tags": tags})


def result_tags(request: Event) -> list[list[str]]:
    """What stands outside."""
    return [["e", request["id"]], ["p", request["pubkey"]], ["v", SCHEMA], _expiration(), ["encrypted"]]


def answer(prompt: str) -> str:
    """The answer to this prompt and to no other."""
    name = sha256(prompt.encode()).hex()[:8]
    return f"answer {name}: a constant text, as long as a short answer of a model may be, that takes no time to make"


def _expiration() -> list[str]:
    return ["expiration", str(int(time.time()) + LIFETIME_S)]


def _is_text(value: object) -> bool:
    return type(value) is str


@lru_cache(maxsize=4_096)
def _point(author: str) -> coincurve.PublicKeyXOnly:
    # Raises `ValueError` if it is not a public key; then nothing is stored.
    if not is_hex64(author):
        raise ValueError("a public key is 64 lower-case hex characters")
    return coincurve.PublicKeyXOnly(bytes.fromhex(author))
