"""A provider's announcement, kind 31990 (NIP-89 "Handler information"), and its withdrawal (NIP-09)."""

from dataclasses import dataclass

import orjson

from pylon.errors import MalformedError, MoneyError
from pylon.jobs.kinds import ANNOUNCEMENT, DELETION, SCHEMA
from pylon.money.msat import parse_msat
from pylon.money.price import FREE, Price
from pylon.nostr.event import Event, EventDraft, Tag

MAX_NAME = 100
MAX_ABOUT = 1_000
MAX_MODELS = 100
MAX_RELAYS = 20


@dataclass(frozen=True, slots=True)
class OfferedModel:
    """A model that this provider runs. `context` is in tokens."""

    id: str
    sha256: str = ""
    quantization: str = ""
    context: int = 0


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a provider says of itself. `d` names this announcement among those of its key.

    `network` is where it takes payment (see `money`); `free` says that nobody is charged. `relays` is where it
    reads requests.
    """

    d: str
    name: str = ""
    about: str = ""
    kinds: frozenset[int] = frozenset()
    models: tuple[OfferedModel, ...] = ()
    price: Price = FREE
    network: str = "play"
    relays: tuple[str, ...] = ()
    software: str = ""

    @property
    def free(self) -> bool:
        return self.price.is_free


def announcement_draft(announcement: Announcement, *, created_at: int) -> EventDraft:
    """The event, to be signed."""
    a = announcement
    prices = (a.price.base_msat, a.price.in_msat_per_1k, a.price.out_msat_per_1k)
    tags: list[Tag] = [("d", a.d), *(("k", str(kind)) for kind in sorted(a.kinds))]
    tags += [("model", m.id, m.sha256, m.quantization, str(m.context)) for m in a.models]
    tags += [("price", *map(str, prices)), ("network", a.network)]
    if a.relays:
        tags.append(("relays", *a.relays))
    if a.software:
        tags.append(("client", a.software))
    tags.append(("v", SCHEMA))
    content = orjson.dumps({"name": a.name, "about": a.about}).decode()
    return EventDraft(ANNOUNCEMENT, content, tuple(tags), created_at)


def parse_announcement(event: Event) -> Announcement:
    """The announcement in a verified event.

    A plain NIP-90 provider's lacks models and price; it is then free of both. Raises `MalformedError`.
    """
    if event.kind != ANNOUNCEMENT:
        raise MalformedError(f"kind {event.kind} is not an announcement")
    d = event.tag("d")
    if d is None:
        raise MalformedError("an announcement needs a d tag")
    name, about = _metadata(event.content)
    relays = next((tag[1 : 1 + MAX_RELAYS] for tag in event.tags if tag[0] == "relays"), ())
    return Announcement(
        d,
        name,
        about,
        frozenset(int(k) for k in event.tag_values("k") if k.isascii() and k.isdigit() and len(k) <= 5),
        tuple(_model(tag) for tag in event.tags if tag[0] == "model")[:MAX_MODELS],
        _price(event),
        event.tag("network") or "",
        relays,
        (event.tag("client") or "")[:MAX_NAME],
    )


def withdrawal_draft(provider: str, d: str, *, created_at: int) -> EventDraft:
    """Takes an announcement back (NIP-09): the provider serves no more."""
    tags = (("a", f"{ANNOUNCEMENT}:{provider}:{d}"), ("k", str(ANNOUNCEMENT)), ("v", SCHEMA))
    return EventDraft(DELETION, "", tags, created_at)


def _metadata(content: str) -> tuple[str, str]:
    # NIP-89 lets the content be empty: the key's own profile counts then.
    try:
        raw = orjson.loads(content) if content else {}
    except orjson.JSONDecodeError as error:
        raise MalformedError("an announcement's content must be JSON") from error
    if not isinstance(raw, dict):
        raise MalformedError("an announcement's content must be a JSON object")
    name, about = raw.get("name"), raw.get("about")
    return (
        name[:MAX_NAME] if isinstance(name, str) else "",
        about[:MAX_ABOUT] if isinstance(about, str) else "",
    )


def _model(tag: Tag) -> OfferedModel:
    values = (*tag[1:5], "", "", "", "")[:4]
    context = values[3]
    if len(values[0]) > 200 or not (context == "" or (context.isascii() and context.isdigit() and len(context) < 10)):
        raise MalformedError("a model tag must be an id, a sha256, a quantization and a context in tokens")
    return OfferedModel(values[0], values[1][:64], values[2][:40], int(context or 0))


def _price(event: Event) -> Price:
    tag = next((tag for tag in event.tags if tag[0] == "price"), None)
    if tag is None:
        return FREE
    if len(tag) != 4:
        raise MalformedError("a price tag must hold three amounts")
    try:
        return Price(*(parse_msat(value) for value in tag[1:]))
    except MoneyError as error:
        raise MalformedError(str(error)) from error
