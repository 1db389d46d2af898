"""How long a prompt may be so that a sealed request for it is one event: known before anybody is asked. Pure."""

import math
from bisect import bisect_right
from functools import lru_cache

from pylon.errors import MalformedError, TooLargeError
from pylon.jobs.kinds import RLM_REQUEST, SCHEMA
from pylon.jobs.payload import ENCRYPTED, ZSTD, Payload, pack
from pylon.jobs.size import MAX_EVENT_BYTES, event_bytes, text_bytes
from pylon.nostr.crypto.nip44 import payload_length
from pylon.nostr.event import EventDraft

# What a request says besides its prompt: a model's name of up to 200 bytes, and some numbers. That is less than 1,024
# bytes, and a third more as base64, where it is compressed and does not get shorter.
_TERMS_BYTES = 1_024 * 4 // 3
_FRAME, _ = pack(Payload())
_TAGS = (("p", "0" * 64), ENCRYPTED, ZSTD, ("v", SCHEMA), ("expiration", "1000000000"))
_AROUND = event_bytes(EventDraft(RLM_REQUEST, "", _TAGS))


@lru_cache(maxsize=16)
def prompt_bytes(limit: int = MAX_EVENT_BYTES) -> int:
    """The bytes of UTF-8 that a prompt may have so that its event has at most `limit`, whatever it says, unless more
    than a twentieth of it are line ends, quotation marks and the like, for which JSON takes two.

    Longer ones may fit where they compress well: `fits` says whether this one does.
    """
    return max(0, _room(limit) - _TERMS_BYTES) * 20 // 21


def fits(prompt: str, limit: int = MAX_EVENT_BYTES) -> bool:
    """Whether a sealed request for this prompt is an event of at most `limit` bytes.

    It errs towards too large, by as much as the terms are shorter than they may be. What is no Unicode text counts as
    fitting: whoever seals it says what is wrong with it.
    """
    return _alone(prompt) + _TERMS_BYTES <= _room(limit)


def misfit(prompt: str) -> str:
    """Why no sealed request carries this prompt, however little else it says, in a few words for people; or empty."""
    if text_bytes(prompt) <= prompt_bytes() or _alone(prompt) <= _room(MAX_EVENT_BYTES):
        return ""
    size, most = f"{len(prompt):,} characters", f"{MAX_EVENT_BYTES:,} bytes"
    return f"a prompt of {size} makes a larger event than relays take, of {most} at most"


def _alone(prompt: str) -> float:
    """The bytes to be sealed that are the prompt's; endless where nobody would read so many."""
    try:
        packed, _ = pack(Payload(prompt))
    except TooLargeError:
        return math.inf
    except MalformedError:
        return 0
    return len(packed) - len(_FRAME)


@lru_cache(maxsize=16)
def _room(limit: int) -> int:
    """How many bytes may be sealed."""
    return bisect_right(range(1, limit), limit, key=_sealed)


def _sealed(plain_bytes: int) -> int:
    """The event's bytes, of so many bytes to be sealed."""
    return _AROUND + payload_length(plain_bytes)
