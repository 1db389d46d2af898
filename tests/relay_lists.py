"""Relay lists (NIP-65) as other programs publish them."""

from pylon.nostr.event import EventDraft, Tag
from pylon.nostr.nip65 import RELAY_LIST_KIND, RelayList


def relay_list_draft(relays: RelayList, created_at: int | None = None) -> EventDraft:
    """The event that publishes a list; its addresses as they are."""
    tags: list[Tag] = []
    for url in dict.fromkeys((*relays.read, *relays.write)):
        if url in relays.read and url in relays.write:
            tags.append(("r", url))
        else:
            tags.append(("r", url, "read" if url in relays.read else "write"))
    return EventDraft(RELAY_LIST_KIND, tags=tuple(tags), created_at=created_at)
