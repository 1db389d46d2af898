"""Judges a provider's announcement and heartbeat as they are stored on the relay."""

import re
from typing import Any

import orjson

from pylon.conformance.clauses import Clause, Verdict, judged, skipped
from pylon.jobs.kinds import ANNOUNCEMENT, HEARTBEAT, REQUEST_KINDS, SCHEMA
from pylon.nostr.event import Event, expiration

FRESH_S = 120
MAX_EXPIRY_S = 900
MAX_AHEAD_S = 900
_SHA256 = re.compile("([0-9a-f]{64})?")
_RELAY = re.compile(r"wss?://\S+")


def kinds_of(announcement: Event | None) -> list[int]:
    """The request kinds in an announcement, of those that the schema defines."""
    announced = () if announcement is None else announcement.tag_values("k")
    return sorted(int(kind) for kind in set(announced) if kind in map(str, REQUEST_KINDS))


def newest(events: list[Event], kind: int) -> Event | None:
    """The newest event of a kind, which replaces the others (NIP-01); None if there is none."""
    return max((event for event in events if event.kind == kind), key=lambda event: event.created_at, default=None)


def judge_presence(events: list[Event], now: float) -> list[Verdict]:
    """The verdicts on announcement and heartbeat. `events` are the provider's, of both kinds, verified."""
    announcement, beat = newest(events, ANNOUNCEMENT), newest(events, HEARTBEAT)
    verdicts = [judged(Clause.ANNOUNCEMENT, _announcement(announcement))]
    if announcement is None:
        none = "there is no announcement"
        verdicts += [skipped(clause, none) for clause in (Clause.ANNOUNCED_MODELS, Clause.ANNOUNCED_PRICE)]
    else:
        verdicts.append(judged(Clause.ANNOUNCED_MODELS, _models(announcement)))
        verdicts.append(judged(Clause.ANNOUNCED_PRICE, _price(announcement)))
    if beat is None:
        verdicts.append(skipped(Clause.HEARTBEAT, "there is no heartbeat"))
        verdicts.append(judged(Clause.HEARTBEAT_FRESH, "no heartbeat of this provider is on the relay"))
        return verdicts
    verdicts.append(judged(Clause.HEARTBEAT, _heartbeat(beat, announcement)))
    age = now - beat.created_at
    stale = f"the newest is {age:.0f} s old" if not -MAX_AHEAD_S <= age <= FRESH_S else None
    verdicts.append(judged(Clause.HEARTBEAT_FRESH, stale))
    return verdicts


def _announcement(event: Event | None) -> str | None:
    if event is None:
        return "no announcement of this provider is on the relay"
    if not event.tag("d"):
        return "there is no d tag"
    if len(event.tag("d") or "") > 200:
        return "d has more than 200 characters"
    if not kinds_of(event):
        return "no k tag names 5940 or 5050"
    if event.tag("v") != SCHEMA:
        return f"there is no v tag with {SCHEMA}"
    # It may be empty: then the profile of the provider's key applies (NIP-89).
    if event.content and _object(event.content) is None:
        return "the content is not a JSON object"
    relays = next((tag[1:] for tag in event.tags if tag[0] == "relays"), ())
    wrong = [url for url in relays if not _RELAY.fullmatch(url)]
    return f"{wrong[0][:60]!r} is not the address of a relay" if wrong else None


def _models(event: Event) -> str | None:
    models = [tag for tag in event.tags if tag[0] == "model"]
    if not models:
        return "no model is announced (one that is still being loaded will be, when it is there)"
    for tag in models:
        if len(tag) not in (5, 6) or not 1 <= len(tag[1]) <= 200:
            return "a model tag does not hold an id, a sha256, a quantization and a context"
        if not _SHA256.fullmatch(tag[2]):
            return "the hash of a model's weights is not 64 hexadecimal characters"
        if not all(map(_whole, tag[4:])):
            return "a model's context, or its longest answer, is not a whole number of tokens"
    return None


def _price(event: Event) -> str | None:
    price = next((tag for tag in event.tags if tag[0] == "price"), None)
    if price is None:
        return None
    if len(price) != 4 or not all(map(_whole, price[1:])):
        return "the price tag does not hold three whole amounts of msat"
    return None if event.tag("network") else "a price without a network tag does not say in which money"


def _heartbeat(event: Event, announcement: Event | None) -> str | None:
    if event.tag("v") != SCHEMA:
        return f"there is no v tag with {SCHEMA}"
    d = event.tag("d")
    if d is None or (announcement is not None and d != announcement.tag("d")):
        return "its d tag is not the announcement's"
    ends = expiration(event)
    if ends is None or not event.created_at < ends <= event.created_at + MAX_EXPIRY_S:
        return f"its expiration is not within {MAX_EXPIRY_S} s of its created_at"
    body = _object(event.content)
    if body is None:
        return "the content is not a JSON object"
    for name in ("slots", "slots_free", "queue_s", "tokens_in_per_s", "tokens_out_per_s"):
        value = body.get(name, 0)
        if type(value) not in (int, float) or value < 0:
            return f"{name} is not a number"
    models = body.get("models", {})
    if not isinstance(models, dict) or not all(isinstance(sha256, str) for sha256 in models.values()):
        return "models is not an object from ids to hashes"
    if not isinstance(body.get("loading", False), bool):
        return "loading is neither true nor false"
    return None if isinstance(body.get("paused", ""), str) else "paused is not a text"


def _whole(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) <= 16


def _object(content: str) -> dict[str, Any] | None:
    try:
        raw = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return raw if isinstance(raw, dict) else None
