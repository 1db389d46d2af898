"""A provider's heartbeat, kind 11998: that it is alive, how free and how fast.

One is sent every 30 s, and expires 120 s later.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import orjson

from pylon.errors import MalformedError
from pylon.jobs import answer
from pylon.jobs.announcement import check_name
from pylon.jobs.kinds import HEARTBEAT, SCHEMA
from pylon.jobs.size import check_size, unsigned
from pylon.nostr.event import Event, EventDraft, expiration
from pylon.text import clean_line, is_line

INTERVAL_S = 30
EXPIRY_S = 120
# Plain peers send one every 300 s. One that claims to be valid for longer counts for three such intervals at most.
MAX_EXPIRY_S = 900
MAX_TEXT = 100
_MAX_NUMBER = 1e9


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The state of a provider. `d` is its announcement's; `expires_at` is in Unix seconds.

    Speeds are in tokens per second, 0 when not known yet; `queue_s` is how many seconds a new job waits. `models`
    maps model ids to their weights hashes. `loading`: no model is ready yet. `paused`: why no jobs are accepted, or
    empty.
    """

    d: str
    slots: int = 0
    slots_free: int = 0
    queue_s: float = 0.0
    tokens_in_per_s: float = 0.0
    tokens_out_per_s: float = 0.0
    models: tuple[tuple[str, str], ...] = ()
    price_version: str = ""
    loading: bool = False
    paused: str = ""
    expires_at: int = 0


def heartbeat_draft(heartbeat: Heartbeat, *, created_at: int) -> EventDraft:
    """The event, to be signed. It expires at `heartbeat.expires_at`; `paused` is cut to 100 characters.

    Raises `MalformedError` for values that our own reader would not read back, and `TooLargeError`.
    """
    heartbeat = replace(heartbeat, paused=clean_line(heartbeat.paused)[:MAX_TEXT])
    hidden = ("d", "expires_at", "models")
    body: dict[str, Any] = {f.name: getattr(heartbeat, f.name) for f in fields(heartbeat) if f.name not in hidden}
    body["models"] = dict(heartbeat.models)
    tags = (("d", heartbeat.d), ("expiration", str(heartbeat.expires_at)), ("v", SCHEMA))
    try:
        content = orjson.dumps(body).decode()
    except TypeError as error:
        raise MalformedError("a heartbeat holds text that is not valid Unicode") from error
    draft = EventDraft(HEARTBEAT, content, tags, created_at)
    answer.check_same(heartbeat, parse_heartbeat(unsigned(draft)))
    return check_size(draft, hint="Name fewer models.")


def parse_heartbeat(event: Event) -> Heartbeat:
    """The heartbeat in a verified event. Raises `MalformedError`.

    It holds until its expiration, for at most 900 s; without one for 120 s. A plain peer's heartbeat may hold
    anything or nothing as content, and lack `d`: it then says only that its key is alive.
    """
    if event.kind != HEARTBEAT:
        raise MalformedError(f"kind {event.kind} is not a heartbeat")
    d = event.tag("d")
    expires_at = expiration(event)
    if expires_at is None:
        expires_at = event.created_at + EXPIRY_S
    expires_at = min(expires_at, event.created_at + MAX_EXPIRY_S)
    if event.tag("v") != SCHEMA:
        return Heartbeat(check_name(d or ""), slots=1, slots_free=1, expires_at=expires_at)
    try:
        raw = orjson.loads(event.content)
    except orjson.JSONDecodeError as error:
        raise MalformedError("a heartbeat's content must be JSON") from error
    if not isinstance(raw, dict):
        raise MalformedError("a heartbeat's content must be a JSON object")
    if d is None:
        raise MalformedError("a heartbeat needs a d tag")
    return Heartbeat(
        check_name(d),
        slots=int(_number(raw, "slots")),
        slots_free=int(_number(raw, "slots_free")),
        queue_s=_number(raw, "queue_s"),
        tokens_in_per_s=_number(raw, "tokens_in_per_s"),
        tokens_out_per_s=_number(raw, "tokens_out_per_s"),
        models=_models(raw.get("models", {})),
        price_version=_text(raw, "price_version"),
        loading=raw.get("loading") is True,
        paused=_text(raw, "paused"),
        expires_at=expires_at,
    )


def _number(raw: dict[str, Any], name: str) -> float:
    value = raw.get(name, 0)
    if type(value) not in (int, float) or not 0 <= value <= _MAX_NUMBER:
        raise MalformedError(f"a heartbeat's {name} must be a number from 0 to {_MAX_NUMBER:g}")
    return float(value)


def _text(raw: dict[str, Any], name: str) -> str:
    value = raw.get(name, "")
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise MalformedError(f"a heartbeat's {name} must be at most {MAX_TEXT} characters")
    return clean_line(value)


def _models(raw: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(raw, dict) or len(raw) > 100:
        raise MalformedError("a heartbeat's models must be an object of at most 100 entries")
    for name, sha256 in raw.items():
        if not isinstance(sha256, str) or len(sha256) > 64 or len(name) > 200 or not is_line(name + sha256):
            raise MalformedError("a heartbeat's models map ids to hashes")
    return tuple(raw.items())
