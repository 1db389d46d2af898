"""A provider's entry in the directory: its events as relays brought them, and the listing made of them."""

import math
from dataclasses import dataclass, field

from pylon.jobs.announcement import Announcement, OfferedModel
from pylon.jobs.heartbeat import Heartbeat
from pylon.money.price import FREE
from pylon.nostr.event import Event
from pylon.swarm.providers.listing import Listing

MAX_MODELS = 32
MAX_RELAY_URL = 200
PLAIN_AGE_S = 7 * 86_400


@dataclass(slots=True)
class Version:
    """Which version of a replaceable event is in force. NIP-01: the newest; of the same second, the lower id."""

    created_at: int
    id: str

    def older_than(self, event: Event) -> bool:
        """Whether this event replaces it."""
        return event.created_at > self.created_at or (event.created_at == self.created_at and event.id < self.id)


@dataclass(slots=True)
class Announced:
    """A provider's announcement. `plain`: it does not speak `pylon/1`."""

    version: Version
    # None: withdrawn. It is remembered so that an older copy from another relay does not bring it back.
    value: Announcement | None
    plain: bool = False


@dataclass(slots=True)
class Entry:
    """See the module. `announced` is by `d`. Times are Unix seconds."""

    announced: dict[str, Announced] = field(default_factory=dict)
    beat_version: Version | None = None
    # The heartbeat in force, and until when it holds.
    beat: Heartbeat | None = None
    beat_until: float = 0.0
    listing: Listing | None = None
    listed_until: float = 0.0
    # For when its next look is planned.
    due: float = math.inf


def listing_of(provider: str, entry: Entry, now: float) -> tuple[Listing | None, float]:
    """The listing of a provider and until when it holds; None if it is not alive."""
    beat = entry.beat
    if beat is None:
        return _plain_listing(provider, entry, now)
    announced = entry.announced.get(beat.d)
    if announced is None or announced.value is None:
        return None, math.inf
    value = announced.value
    listing = Listing(
        provider,
        value.d,
        value.name,
        value.kinds,
        _models(value, beat),
        value.price or FREE,
        value.network,
        tuple(url for url in value.relays if len(url) <= MAX_RELAY_URL),
        max(1, beat.slots),
        beat.slots_free,
        beat.queue_s,
        beat.tokens_in_per_s,
        beat.tokens_out_per_s,
        beat.paused,
        beat.loading,
        announced.plain,
        value.price is not None,
    )
    return listing, entry.beat_until


def _plain_listing(provider: str, entry: Entry, now: float) -> tuple[Listing | None, float]:
    plain = [a for a in entry.announced.values() if a.plain and a.value is not None]
    newest = max(plain, key=lambda a: a.version.created_at, default=None)
    if newest is None or newest.value is None or newest.version.created_at + PLAIN_AGE_S <= now:
        return None, math.inf
    value = newest.value
    relays = tuple(url for url in value.relays if len(url) <= MAX_RELAY_URL)
    listing = Listing(
        provider,
        value.d,
        value.name,
        value.kinds,
        value.models[:MAX_MODELS],
        network=value.network,
        relays=relays,
        plain=True,
        priced=False,
    )
    return listing, newest.version.created_at + PLAIN_AGE_S


def _models(announcement: Announcement, beat: Heartbeat) -> tuple[OfferedModel, ...]:
    # The heartbeat names the models that answer now; the announcement says more about each.
    if not beat.models:
        return announcement.models[:MAX_MODELS]
    details = {m.id: m for m in announcement.models}
    found: list[OfferedModel] = []
    for id_, sha256 in beat.models[:MAX_MODELS]:
        known = details.get(id_)
        same = known is not None and known.sha256 == sha256
        found.append(known if same and known is not None else OfferedModel(id_, sha256))
    return tuple(found)
