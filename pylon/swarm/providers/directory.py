"""The directory of live providers: announcements and heartbeats in, a table of listings out.

A provider is identified by its key. Its newest heartbeat says which of its announcements (`d`) is in force, and it is
listed until that heartbeat expires. A plain NIP-90 provider needs no heartbeat: its announcement lists it for a week.
Anyone can make keys, so the table is bounded: providers that are not alive make room first, and when all are alive
newcomers are turned away.

Times are Unix seconds. Events must have been verified.
"""

import heapq
import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from operator import attrgetter

from pylon.jobs.announcement import Announcement, parse_announcement
from pylon.jobs.heartbeat import EXPIRY_S, Heartbeat, parse_heartbeat
from pylon.jobs.kinds import ANNOUNCEMENT, DELETION, HEARTBEAT, SCHEMA
from pylon.nostr.event import Event
from pylon.records import record
from pylon.swarm.circle import Circle
from pylon.swarm.providers.entry import Announced, Entry, Version, listing_of
from pylon.swarm.providers.listing import Listing, Need, names_of

MAX_PROVIDERS = 20_000
# Further announcements of one key push out its oldest.
MAX_ANNOUNCEMENTS = 4
# An event dated further ahead than relays allow would stay the newest for as long as its author likes.
MAX_AHEAD_S = 900
# How many more expiries than providers may be planned, left over from providers that came and went.
_OVER = 1_000
# All that a heartbeat says except when it expires.
_said = attrgetter(*(said.name for said in fields(Heartbeat) if said.name != "expires_at"))


@record
class ProviderUp:
    """A provider appeared, or what is known of it changed."""

    listing: Listing


@dataclass(frozen=True, slots=True)
class ProviderDown:
    """A provider is no longer alive."""

    provider: str


type Change = ProviderUp | ProviderDown


class Directory:
    """See the module. Providers that `circle` names are never turned away."""

    def __init__(self, *, capacity: int = MAX_PROVIDERS, circle: Circle | None = None) -> None:
        self._capacity = capacity
        self._circle = circle or Circle()
        self._entries: dict[str, Entry] = {}
        # Known providers that are not alive, those unheard for longest first.
        self._dormant: OrderedDict[str, None] = OrderedDict()
        self._live: dict[str, Listing] = {}
        self._by_model: dict[str, set[str]] = {}
        # A heap of (when to look, provider). An entry is moved on when it comes up, not with every heartbeat.
        self._expiries: list[tuple[float, str]] = []
        self.turned_away = 0

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Listing]:
        return iter(self._live.values())

    def get(self, provider: str) -> Listing | None:
        """The listing of this provider; None if it is not alive."""
        return self._live.get(provider)

    def alive_until(self, provider: str) -> float:
        """When a live provider expires if nothing more is heard of it, in Unix seconds. Raises `KeyError`."""
        return self._entries[provider].listed_until

    def find(self, need: Need) -> list[Listing]:
        """The live providers that meet a need. If it names a model, only those with that model are looked at."""
        return [listing for listing in self._candidates(need) if not need.why_not(listing)]

    def unannounced(self) -> list[str]:
        """Providers whose heartbeat came without an announcement: a relay answers with a few hundred events at
        most."""
        return [
            key for key in self._dormant if (entry := self._entries[key]).beat is not None and not entry.announced
        ]

    @property
    def known(self) -> int:
        """How many providers were heard of, alive or not."""
        return len(self._entries)

    def observe(self, event: Event, now: float) -> list[Change]:
        """Takes an announcement, a heartbeat or a withdrawal in. Raises `MalformedError`; other kinds do nothing."""
        if event.created_at > now + MAX_AHEAD_S:
            return []
        changed = False
        if event.kind == ANNOUNCEMENT:
            changed = self._announce(event, parse_announcement(event))
        elif event.kind == HEARTBEAT:
            changed = self._beat(event, parse_heartbeat(event), now)
        elif event.kind == DELETION:
            changed = self._withdraw(event)
        return self._refresh(event.pubkey, now) if changed else []

    def expire(self, now: float) -> list[Change]:
        """Removes the providers that have expired."""
        changes: list[Change] = []
        while self._expiries and self._expiries[0][0] <= now:
            due, provider = heapq.heappop(self._expiries)
            entry = self._entries.get(provider)
            # A leftover, planned before the provider went or changed.
            if entry is None or entry.listing is None or due != entry.due:
                continue
            entry.due = math.inf
            if entry.listed_until <= now:
                changes += self._refresh(provider, now)
            if entry.listing is not None:
                self._plan(provider, entry)
        return changes

    # --- events -----------------------------------------------------------------------------------------------

    def _announce(self, event: Event, value: Announcement) -> bool:
        entry = self._entry(event.pubkey)
        if entry is None:
            return False
        old = entry.announced.get(value.d)
        if old is not None and not old.version.older_than(event):
            return False
        plain = event.tag("v") != SCHEMA
        entry.announced[value.d] = Announced(Version(event.created_at, event.id), value, plain)
        if len(entry.announced) > MAX_ANNOUNCEMENTS:
            oldest = min(entry.announced, key=lambda d: entry.announced[d].version.created_at)
            del entry.announced[oldest]
        return True

    def _beat(self, event: Event, value: Heartbeat, now: float) -> bool:
        if value.expires_at <= now:
            return False
        entry = self._entry(event.pubkey)
        if entry is None or (entry.beat_version is not None and not entry.beat_version.older_than(event)):
            return False
        entry.beat_version = Version(event.created_at, event.id)
        # A heartbeat is not believed for longer than twice the usual time.
        entry.beat_until = min(value.expires_at, int(now) + 2 * EXPIRY_S)
        if entry.listing is not None and entry.beat is not None and _said(entry.beat) == _said(value):
            # Most heartbeats say nothing new: the listing only lasts longer.
            entry.listed_until = entry.beat_until
            self._plan(event.pubkey, entry)
            return False
        entry.beat = value
        return True

    def _withdraw(self, event: Event) -> bool:
        entry = self._entries.get(event.pubkey)
        if entry is None:
            return False
        withdrawn = False
        for address in event.tag_values("a"):
            kind, _, rest = address.partition(":")
            author, _, d = rest.partition(":")
            old = entry.announced.get(d)
            # NIP-09: only its author takes an event back, and only versions up to the deletion's own time.
            ours = kind == str(ANNOUNCEMENT) and author == event.pubkey
            if ours and old is not None and old.version.created_at <= event.created_at:
                entry.announced[d] = Announced(Version(event.created_at, ""), None)
                withdrawn = True
        return withdrawn

    def _entry(self, provider: str) -> Entry | None:
        entry = self._entries.get(provider)
        if entry is not None:
            if provider in self._dormant:
                self._dormant.move_to_end(provider)
            return entry
        if len(self._entries) >= self._capacity and not self._circle.keeps(provider):
            if not self._dormant:
                self.turned_away += 1
                return None
            oldest, _ = self._dormant.popitem(last=False)
            del self._entries[oldest]
        entry = self._entries[provider] = Entry()
        self._dormant[provider] = None
        return entry

    # --- the table --------------------------------------------------------------------------------------------

    def _refresh(self, provider: str, now: float) -> list[Change]:
        entry = self._entries[provider]
        if entry.beat is not None and entry.beat_until <= now:
            entry.beat = None
        old = entry.listing
        new, entry.listed_until = listing_of(provider, entry, now)
        entry.listing = new
        if new is None:
            if old is None:
                return []
            del self._live[provider]
            entry.due = math.inf
            self._index(old, present=False)
            self._dormant[provider] = None
            return [ProviderDown(provider)]
        self._live[provider] = new
        self._plan(provider, entry)
        if old is None:
            self._dormant.pop(provider, None)
        elif old.models != new.models:
            self._index(old, present=False)
        if old is None or old.models != new.models:
            self._index(new, present=True)
        return [] if old == new else [ProviderUp(new)]

    def _plan(self, provider: str, entry: Entry) -> None:
        if entry.listed_until < entry.due:
            entry.due = entry.listed_until
            heapq.heappush(self._expiries, (entry.due, provider))
            if len(self._expiries) > 2 * len(self._live) + _OVER:
                self._expiries = [(self._entries[key].due, key) for key in self._live]
                heapq.heapify(self._expiries)

    def _index(self, listing: Listing, *, present: bool) -> None:
        for model in listing.models:
            for name in names_of(model):
                if present:
                    self._by_model.setdefault(name, set()).add(listing.provider)
                elif name in self._by_model:
                    self._by_model[name].discard(listing.provider)
                    if not self._by_model[name]:
                        del self._by_model[name]

    def _candidates(self, need: Need) -> Iterable[Listing]:
        if need.model is None:
            return self._live.values()
        return (self._live[key] for key in self._by_model.get(need.model, ()))
