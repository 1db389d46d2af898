"""How large an event is on the wire, before it is signed."""

from pylon.errors import TooLargeError
from pylon.nostr.event import Event, EventDraft

# The default of common relay software; a relay's own figure is in its NIP-11 document.
MAX_EVENT_BYTES = 64 * 1024


def event_bytes(draft: EventDraft) -> int:
    """The bytes of the signed event's JSON, without signing it: id, key and signature have fixed lengths."""
    created_at = draft.created_at if draft.created_at is not None else 1_000_000_000
    return len(Event("0" * 64, "0" * 64, created_at, draft.kind, draft.tags, draft.content, "0" * 128).to_json())


def check_size(draft: EventDraft, limit: int = MAX_EVENT_BYTES) -> EventDraft:
    """The draft itself when its event fits. Raises `TooLargeError` that names the size and the limit."""
    size = event_bytes(draft)
    if size > limit:
        raise TooLargeError(
            f"this makes an event of {size:,} bytes, and relays take at most {limit:,}",
            hint="Cut the prompt into smaller pieces.",
        )
    return draft
