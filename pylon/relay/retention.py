"""What a relay keeps: replaceable and addressable events (NIP-01), deletion requests (NIP-09), what it has room for.

`plan` takes a batch of events and what the database already knows about them, and says what to write. It reads
no clock and no database.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from pylon.nostr.event import MAX_TIMESTAMP, Event, expiration, is_addressable, is_hex64, is_replaceable

DELETION_KIND = 5
SOON_S = 86_400
# Nobody waits for the answer to a job so long.
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
class Room:
    """How full the store is: `used` of `bound` bytes, and when this is (Unix seconds).

    What was acknowledged is kept, so a full store refuses what is new, and pushes out nothing that is of use: else a
    stranger could push out what others rely on. Jobs (kinds 5000 to 7000) and their cancellations are of no use after
    `STALE_S`: where room is scarce, those go. The last tenth is for events that expire within a day: jobs and results
    find room again and again, however much comes that would stay.
    """

    bound: int
    used: int
    now: int

    def has(self, event: Event, growth: int) -> bool:
        """Whether there is room for an event with which the store grows by so many bytes."""
        if growth <= 0:
            return True
        ends = expiration(event)
        # A deletion request may expire, and what it says of other events stays in the store all the same.
        goes = event.kind != DELETION_KIND and ends is not None and ends <= self.now + SOON_S
        return self.used + growth <= (self.bound if goes else self.lasting)

    @property
    def lasting(self) -> int:
        """Up to how many bytes events are taken that stay for longer."""
        return self.bound - self.bound // 10

    @property
    def is_scarce(self) -> bool:
        """Whether events that stay are soon refused."""
        return self.used > self.lasting - self.bound // 20


@dataclass(slots=True)
class Known:
    """What the database says about a batch: stored ids, newest version per address, deletions asked for.

    `deleted` maps (id or address, author) to the `created_at` up to which the author's events are deleted. `sizes`
    has what each event of the batch takes in the store, and each of `heads`, in bytes by id; only with a `Room`.
    """

    ids: set[str] = field(default_factory=set)
    heads: dict[str, tuple[int, str]] = field(default_factory=dict)
    deleted: dict[tuple[str, str], int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Plan:
    """What to write for a batch. `outcomes` is one for each event, in order."""

    outcomes: list[Outcome] = field(default_factory=list)
    keep: dict[str, Event] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)
    deleted: dict[tuple[str, str], int] = field(default_factory=dict)


def address(event: Event) -> str | None:
    """What later versions of the event replace it by, as an `a` tag writes it, or None for other kinds."""
    if is_replaceable(event.kind):
        return f"{event.kind}:{event.pubkey}:"
    if is_addressable(event.kind):
        return f"{event.kind}:{event.pubkey}:{event.tag('d') or ''}"
    return None


def deletions(event: Event) -> Iterable[tuple[str, int]]:
    """What a deletion request names: (id or address, `created_at` up to which it holds)."""
    if event.kind != DELETION_KIND:
        return
    for value in event.tag_values("e"):
        if is_hex64(value):
            yield value, MAX_TIMESTAMP
    for value in event.tag_values("a"):
        kind, _, rest = value.partition(":")
        # Another key's address is no error: the request may name several, and the rest holds.
        if rest.startswith(f"{event.pubkey}:") and kind.isascii() and kind.isdigit() and kind == str(int(kind[:6])):
            yield value, event.created_at


def plan(batch: Sequence[Event], known: Known, room: Room | None = None) -> Plan:
    """What to write for these events, in the order in which they came; without a `room` all that is new.

    Changes `known` and `room` as it goes along.
    """
    result = Plan()
    for event in batch:
        result.outcomes.append(_place(event, known, room, result))
    return result


def _place(event: Event, known: Known, room: Room | None, result: Plan) -> Outcome:
    where = address(event)
    # A deletion request cannot itself be deleted (NIP-09 "Deletion request against a deletion request").
    if event.kind != DELETION_KIND:
        for target in (event.id, where):
            if target is not None and event.created_at <= known.deleted.get((target, event.pubkey), -1):
                return Outcome.DELETED
    # After the deletions: what this same batch deleted is no duplicate.
    if event.id in known.ids:
        return Outcome.DUPLICATE
    head = None if where is None else known.heads.get(where)
    if head is not None and not _newer(event, head):
        return Outcome.SUPERSEDED
    if room is not None:
        growth = known.sizes[event.id] - (0 if head is None else known.sizes[head[1]])
        if not room.has(event, growth):
            return Outcome.FULL
        room.used += growth
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
