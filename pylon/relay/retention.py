"""Which events the relay keeps: by NIP-01 (replaceable and addressable events), NIP-09 (deletion) and free space.

`plan` takes a batch of events and what the database holds about them, and returns what to write. It reads no clock
and no database.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from pylon.nostr.event import MAX_TIMESTAMP, Event, expiration, is_addressable, is_hex64, is_replaceable

DELETION_KIND = 5
# Events that expire within this time may use the last tenth of the store.
SOON_S = 86_400
# Jobs older than this may be deleted for room: no customer waits so long for an answer.
STALE_S = 7 * 86_400


class Outcome(Enum):
    """What became of a published event."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    SUPERSEDED = "superseded"
    DELETED = "deleted"
    FULL = "full"
    FAILED = "failed"


@dataclass(slots=True)
class Space:
    """How full the store is: `used` of `bound` bytes at the time `now` (Unix seconds).

    A full store refuses new events and does not delete useful ones for them, since strangers could then delete the
    events that others rely on. Jobs (kinds 5000 to 7000) and their cancellations are of no use after `STALE_S`, and
    are deleted when room is scarce. The last tenth is kept for events that expire within a day (`SOON_S`), so that
    jobs and results find room however many lasting events are published.
    """

    bound: int
    used: int
    now: int

    def has(self, event: Event, growth: int) -> bool:
        """Whether there is room for an event that makes the store grow by `growth` bytes."""
        if growth <= 0:
            return True
        ends = expiration(event)
        # A deletion request may expire, but the record of what it deletes stays in the store.
        goes = event.kind != DELETION_KIND and ends is not None and ends <= self.now + SOON_S
        return self.used + growth <= (self.bound if goes else self.lasting)

    @property
    def lasting(self) -> int:
        """The number of bytes up to which events are accepted that do not expire within a day."""
        return self.bound - self.bound // 10

    @property
    def is_scarce(self) -> bool:
        """Whether lasting events will soon be refused."""
        return self.used > self.lasting - self.bound // 20


@dataclass(slots=True)
class Known:
    """What the database holds about a batch.

    `ids` are the batch's ids that are stored already. `heads` maps an address to (`created_at`, id) of the newest
    version. `deleted` maps (id or address, author) to the `created_at` up to which the author's events are deleted.
    `sizes` maps ids, those of the batch and of `heads`, to bytes in the store; it is filled only if there is a
    `Space`.
    """

    ids: set[str] = field(default_factory=set)
    heads: dict[str, tuple[int, str]] = field(default_factory=dict)
    deleted: dict[tuple[str, str], int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Plan:
    """What to write for a batch.

    `outcomes` has one for each event, in order; `keep` the events to store, by id; `replaced` the ids of stored
    events to delete; `deleted` the deletions to record, as in `Known`.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    keep: dict[str, Event] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)
    deleted: dict[tuple[str, str], int] = field(default_factory=dict)


def address(event: Event) -> str | None:
    """The address (as in an `a` tag) under which a later version replaces this event; None if its kind has none."""
    if is_replaceable(event.kind):
        return f"{event.kind}:{event.pubkey}:"
    if is_addressable(event.kind):
        return f"{event.kind}:{event.pubkey}:{event.tag('d') or ''}"
    return None


def deletions(event: Event) -> Iterable[tuple[str, int]]:
    """What a deletion request deletes: (id or address, `created_at` up to which). Nothing for other events."""
    if event.kind != DELETION_KIND:
        return
    for value in event.tag_values("e"):
        if is_hex64(value):
            yield value, MAX_TIMESTAMP
    for value in event.tag_values("a"):
        kind, _, rest = value.partition(":")
        # Another key's address is skipped and is no error: the request may name others that are its author's own.
        if rest.startswith(f"{event.pubkey}:") and kind.isascii() and kind.isdigit() and kind == str(int(kind[:6])):
            yield value, event.created_at


def plan(batch: Sequence[Event], known: Known, space: Space | None = None) -> Plan:
    """What to write for these events, in order of arrival. Without a `space` every new event is kept.

    Updates `known` and `space`, so that each event is placed by what the earlier ones of its batch changed.
    """
    result = Plan()
    for event in batch:
        result.outcomes.append(_place(event, known, space, result))
    return result


def _place(event: Event, known: Known, space: Space | None, result: Plan) -> Outcome:
    where = address(event)
    # A deletion request cannot itself be deleted (NIP-09 "Deletion request against a deletion request").
    if event.kind != DELETION_KIND:
        for target in (event.id, where):
            if target is not None and event.created_at <= known.deleted.get((target, event.pubkey), -1):
                return Outcome.DELETED
    # Checked after deletions: an event that this batch deleted is answered as deleted, not as a duplicate.
    if event.id in known.ids:
        return Outcome.DUPLICATE
    head = None if where is None else known.heads.get(where)
    # A version that its author has deleted, as an earlier event of this batch may have done, bars no other one.
    if head is not None and (head[1], event.pubkey) not in known.deleted and not _newer(event, head):
        return Outcome.SUPERSEDED
    if space is not None:
        growth = known.sizes[event.id] - (0 if head is None else known.sizes[head[1]])
        if not space.has(event, growth):
            return Outcome.FULL
        space.used += growth
    if where is not None:
        if head is not None:
            if result.keep.pop(head[1], None) is None:
                result.replaced.append(head[1])
            known.ids.discard(head[1])
        known.heads[where] = (event.created_at, event.id)
    for target, until in deletions(event):
        key = (target, event.pubkey)
        known.deleted[key] = result.deleted[key] = max(until, known.deleted.get(key, -1))
    known.ids.add(event.id)
    result.keep[event.id] = event
    return Outcome.STORED


def _newer(event: Event, head: tuple[int, str]) -> bool:
    # NIP-01: of two with the same created_at the one with the lower id is kept.
    return event.created_at > head[0] or (event.created_at == head[0] and event.id < head[1])
