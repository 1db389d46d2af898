"""A provider's announcement, kind 31990 (NIP-89 "Handler information"), and its withdrawal (NIP-09)."""

import re
from dataclasses import dataclass, replace
from itertools import islice

import orjson

from pylon.errors import MalformedError, MoneyError
from pylon.jobs import answer
from pylon.jobs.kinds import ANNOUNCEMENT, DELETION, SCHEMA
from pylon.jobs.size import check_size, unsigned
from pylon.money.msat import parse_msat
from pylon.money.price import FREE, Price
from pylon.nostr.event import Event, EventDraft, Tag
from pylon.text import clean_line, clean_text, is_line

MAX_NAME = 100
MAX_ABOUT = 1_000
# No more are read: an event could name thousands, and a customer keeps what twenty thousand strangers announce.
MAX_KINDS = 100
MAX_MODELS = 100
MAX_RELAYS = 20
MAX_URL = 300
# In characters. The `a` tag that withdraws an announcement holds its `d` too, and is limited to 1,024 bytes.
MAX_D = 200
MAX_NETWORK = 40
# In place of a payment network: only the owner's own machines and trusted keys are served, nobody else at any price.
HOUSEHOLD = "household"

_SIZE = re.compile(r"[0-9]{1,9}")
_RELAY = re.compile(r"wss?://[^\s]+\Z")


@dataclass(frozen=True, slots=True)
class OfferedModel:
    """A model that a provider runs. `context` and `max_completion_tokens`, the longest answer, are in tokens; 0 when
    the provider does not say.
    """

    id: str
    sha256: str = ""
    quantization: str = ""
    context: int = 0
    max_completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a provider says about itself. `d` names this announcement among those of its key.

    `price` None: the provider does not say what it charges, which does not mean that it is free. `network` is where
    it takes payment (see `money`), `HOUSEHOLD` when it serves only keys that it trusts, empty without a price.
    `relays` are those where it reads requests.
    """

    d: str
    name: str = ""
    about: str = ""
    kinds: frozenset[int] = frozenset()
    models: tuple[OfferedModel, ...] = ()
    price: Price | None = FREE
    network: str = "play"
    relays: tuple[str, ...] = ()
    software: str = ""


def announcement_draft(announcement: Announcement, *, created_at: int) -> EventDraft:
    """The event, to be signed. `name`, `about` and `software` are cleaned, and cut to their limits.

    Raises `MalformedError` for values that our own reader would not read back, and `TooLargeError`.
    """
    a = announcement = replace(
        announcement,
        name=clean_line(announcement.name)[:MAX_NAME],
        about=clean_text(announcement.about)[:MAX_ABOUT],
        software=clean_line(announcement.software)[:MAX_NAME],
    )
    tags: list[Tag] = [("d", a.d), *(("k", str(kind)) for kind in sorted(a.kinds))]
    tags += [_model_tag(model) for model in a.models]
    if a.price is not None and a.network:
        prices = (a.price.base_msat, a.price.in_msat_per_1k, a.price.out_msat_per_1k)
        tags += [("price", *map(str, prices)), ("network", a.network)]
    if a.relays:
        tags.append(("relays", *a.relays))
    if a.software:
        tags.append(("client", a.software))
    tags.append(("v", SCHEMA))
    said = {key: value for key, value in (("name", a.name), ("about", a.about)) if value}
    # NIP-89: only where the content is empty do clients show the key's own profile.
    content = orjson.dumps(said).decode() if said else ""
    draft = EventDraft(ANNOUNCEMENT, content, tuple(tags), created_at)
    answer.check_same(announcement, parse_announcement(unsigned(draft)))
    return check_size(draft, hint="Name fewer models and relays.")


def parse_announcement(event: Event) -> Announcement:
    """The announcement in a verified event.

    Relays that are not websocket addresses are left out. Raises `MalformedError`.

    That of a plain NIP-90 provider has no price here: a `price` tag of another protocol means something else, and the
    provider's feedback will say what it charges. It is not refused for models or content that this schema does not
    allow, and a missing `d` counts as empty (NIP-01).
    """
    if event.kind != ANNOUNCEMENT:
        raise MalformedError(f"kind {event.kind} is not an announcement")
    schema = event.tag("v") == SCHEMA
    d = event.tag("d")
    if d is None and schema:
        raise MalformedError("an announcement needs a d tag")
    name, about = _metadata(event.content, strict=schema)
    relays = next((tag[1:] for tag in event.tags if tag[0] == "relays"), ())
    price = _price(event) if schema else None
    return Announcement(
        check_name(d or ""),
        name,
        about,
        _kinds(event),
        _models(event, strict=schema)[:MAX_MODELS],
        price,
        "" if price is None else _network(event),
        tuple(url for url in relays if len(url) <= MAX_URL and _RELAY.match(url) and is_line(url))[:MAX_RELAYS],
        clean_line(event.tag("client") or "")[:MAX_NAME],
    )


def withdrawal_draft(provider: str, d: str, *, created_at: int) -> EventDraft:
    """The deletion of an announcement (NIP-09): the provider stops serving. Raises `MalformedError`."""
    check_name(d)
    tags = (("a", f"{ANNOUNCEMENT}:{provider}:{d}"), ("k", str(ANNOUNCEMENT)), ("v", SCHEMA))
    return EventDraft(DELETION, "", tags, created_at)


def check_name(d: str) -> str:
    """Checks the `d` of an announcement and its heartbeats. Raises `MalformedError` for one that relays may
    refuse."""
    if len(d) > MAX_D or not is_line(d):
        raise MalformedError(f"a d tag holds at most {MAX_D} characters, and no control characters")
    return d


def _kinds(event: Event) -> frozenset[int]:
    kinds = (int(k) for k in event.tag_values("k") if k.isascii() and k.isdigit() and len(k) <= 5)
    return frozenset(islice(kinds, MAX_KINDS))


def _network(event: Event) -> str:
    network = event.tag("network") or ""
    if len(network) > MAX_NETWORK or not is_line(network):
        raise MalformedError("a network tag names a payment network")
    return network


def _metadata(content: str, *, strict: bool) -> tuple[str, str]:
    # NIP-89 lets the content be empty: the key's own profile counts then.
    try:
        raw = orjson.loads(content) if content else {}
    except orjson.JSONDecodeError as error:
        if not strict:
            return "", ""
        raise MalformedError("an announcement's content must be JSON") from error
    if not isinstance(raw, dict):
        if not strict:
            return "", ""
        raise MalformedError("an announcement's content must be a JSON object")
    name, about = raw.get("name"), raw.get("about")
    return (
        clean_line(name)[:MAX_NAME] if isinstance(name, str) else "",
        clean_text(about)[:MAX_ABOUT] if isinstance(about, str) else "",
    )


def _models(event: Event, *, strict: bool) -> tuple[OfferedModel, ...]:
    models: list[OfferedModel] = []
    for tag in event.tags:
        if tag[0] == "model":
            try:
                models.append(_model(tag))
            except MalformedError:
                if strict:
                    raise
    return tuple(models)


def _model_tag(model: OfferedModel) -> Tag:
    tag = ("model", model.id, model.sha256, model.quantization, str(model.context))
    return (*tag, str(model.max_completion_tokens)) if model.max_completion_tokens else tag


def _model(tag: Tag) -> OfferedModel:
    id_, sha256, quantization, *sizes = (*tag[1:6], "", "", "", "", "")[:5]
    readable = len(id_) <= 200 and is_line(id_ + sha256 + quantization)
    if not readable or not all(size == "" or _SIZE.fullmatch(size) for size in sizes):
        raise MalformedError(
            "a model tag must be an id, a sha256, a quantization, a context and a longest answer in tokens"
        )
    return OfferedModel(id_, sha256[:64], quantization[:40], *(int(size or 0) for size in sizes))


def _price(event: Event) -> Price | None:
    tag = next((tag for tag in event.tags if tag[0] == "price"), None)
    if tag is None:
        return None
    if len(tag) != 4:
        raise MalformedError("a price tag must hold three amounts")
    try:
        return Price(*(parse_msat(value) for value in tag[1:]))
    except MoneyError as error:
        raise MalformedError(str(error)) from error
