"""What a relay keeps: replaceable and addressable events (NIP-01), deletion requests (NIP-09).

`plan` takes a batch of events and what the database already knows about them, and says what to write. It reads
no clock and no database.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from pylon.nostr.event import MAX_TIMESTAMP, Event, is_addressable, is_hex64, is_replaceable

DELETION_KIND = 5


class Outcome(Enum):
    """What became of a published event."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    SUPERSEDED = "superseded"
    DELETED = "deleted"


@dataclass(slots=True)
class Known:
    """What the database says about a batch: stored ids, newest version per address, deletions asked for.

    `deleted` maps (id or address, author) to the `created_at` up to which the author's events are deleted.
    """

    ids: set[str] = field(default_factory=set)
    heads: dict[str, tuple[int, str]] = field(default_factory=dict)
    deleted: dict[tuple[str, str], int] = field(default_factory=dict)


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


def plan(batch: Sequence[Event], known: Known) -> Plan:
    """What to write for these events, in the order in which they came. Changes `known` as it goes along."""
    result = Plan()
    for event in batch:
        result.outcomes.append(_place(event, known, result))
    return result


def _place(event: Event, known: Known, result: Plan) -> Outcome:
    where = address(event)
    # A deletion request cannot itself be deleted (NIP-09 "Deletion request against a deletion request").
    if event.kind != DELETION_KIND:
        for target in (event.id, where):
            if target is not None and event.created_at <= known.deleted.get((target, event.pubkey), -1):
                return Outcome.DELETED
    # After the deletions: what this same batch deleted is no duplicate.
    if event.id in known.ids:
        return Outcome.DUPLICATE
    if where is not None:
        head = known.heads.get(where)
        if head is not None:
            if not _newer(event, head):
                return Outcome.SUPERSEDED
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
