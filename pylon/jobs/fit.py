"""How long a prompt may be for its sealed request to fit one event, before a provider is chosen. Pure."""

import math
from bisect import bisect_right
from functools import lru_cache

from pylon.errors import MalformedError, TooLargeError
from pylon.jobs.kinds import RLM_REQUEST, SCHEMA
from pylon.jobs.payload import ENCRYPTED, ZSTD, Payload, pack
from pylon.jobs.size import MAX_EVENT_BYTES, event_bytes, text_bytes
from pylon.nostr.crypto.nip44 import payload_length
from pylon.nostr.event import EventDraft

# An upper bound for what a request seals besides its prompt: a model's name of up to 200 bytes, and numbers, together
# less than 1,024 bytes. Where it is compressed and gets no shorter, base64 adds a third.
_TERMS_BYTES = 1_024 * 4 // 3
_FRAME, _ = pack(Payload())
_TAGS = (("p", "0" * 64), ENCRYPTED, ZSTD, ("v", SCHEMA), ("expiration", "1000000000"))
_AROUND = event_bytes(EventDraft(RLM_REQUEST, "", _TAGS))


@lru_cache(maxsize=16)
def prompt_bytes(limit: int = MAX_EVENT_BYTES) -> int:
    """The most bytes of UTF-8 with which any prompt's event has at most `limit` bytes.

    Assumes that at most one byte in twenty is a line end, a quotation mark or the like, for which JSON takes two. A
    longer prompt may fit where it compresses well: `fits` tells for a given one.
    """
    return max(0, _room(limit) - _TERMS_BYTES) * 20 // 21


def fits(prompt: str, limit: int = MAX_EVENT_BYTES) -> bool:
    """Whether a sealed request for this prompt is an event of at most `limit` bytes.

    It errs towards too large, by as much as the request's other content is smaller than the bound for it. Text that
    is not valid Unicode counts as fitting: sealing it raises the right error.
    """
    return _alone(prompt) + _TERMS_BYTES <= _room(limit)


def misfit(prompt: str) -> str:
    """Why no sealed request can hold this prompt, whatever else it says, in words for people; empty if one can."""
    if text_bytes(prompt) <= prompt_bytes() or _alone(prompt) <= _room(MAX_EVENT_BYTES):
        return ""
    size, most = f"{len(prompt):,} characters", f"{MAX_EVENT_BYTES:,} bytes"
    return f"a prompt of {size} makes a larger event than relays take, of {most} at most"


def _alone(prompt: str) -> float:
    """How many bytes of the sealed content are the prompt's; infinite for more than a reader would take."""
    try:
        packed, _ = pack(Payload(prompt))
    except TooLargeError:
        return math.inf
    except MalformedError:
        return 0
    return len(packed) - len(_FRAME)


@lru_cache(maxsize=16)
def _room(limit: int) -> int:
    """How many bytes can be sealed in an event of `limit` bytes."""
    return bisect_right(range(1, limit), limit, key=_sealed)


def _sealed(plain_bytes: int) -> int:
    """The bytes of an event with so many sealed bytes."""
    return _AROUND + payload_length(plain_bytes)
