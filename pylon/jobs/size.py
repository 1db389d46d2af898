"""The size of events and texts in bytes, known before an event is signed."""

import orjson

from pylon.errors import MalformedError, TooLargeError
from pylon.jobs.payload import ENCRYPTED
from pylon.nostr.event import Event, EventDraft

# The default of common relay software; a relay's own figure is in its NIP-11 document.
MAX_EVENT_BYTES = 64 * 1024
# Common relay software refuses longer values in tags of one letter: those it can search by.
MAX_INDEXED_BYTES = 1_024
# Has as many digits as any Unix time from 2001 to 2286.
_SOME_TIME = 1_000_000_000


def text_bytes(text: str) -> int:
    """The bytes of a text in UTF-8. A lone surrogate, which no event can hold, counts as one byte."""
    # Most prompts are ASCII, which Python knows without looking at them; encoding one just to count would copy it.
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def question_bytes(text: str, system: str | None) -> int:
    """The bytes of what a model has to read for a job: its text, and its system prompt if there is one.

    Both sides bound a job's price by this, before its tokens have been counted.
    """
    return text_bytes(text) + (text_bytes(system) if system else 0)


def unsigned(draft: EventDraft) -> Event:
    """The event of this draft with zeros for id, key and signature, which have fixed lengths."""
    created_at = draft.created_at if draft.created_at is not None else _SOME_TIME
    return Event("0" * 64, "0" * 64, created_at, draft.kind, draft.tags, draft.content, "0" * 128)


# The bytes of an event's JSON besides time, kind, tags and content: field names, id, key and signature.
_AROUND = len(unsigned(EventDraft(1, created_at=1)).to_json()) - len(orjson.dumps((1, 1, (), "")))


def event_bytes(draft: EventDraft) -> int:
    """The bytes of the signed event's JSON, without signing it. Raises `MalformedError` for lone surrogates."""
    created_at = draft.created_at if draft.created_at is not None else _SOME_TIME
    # Sealed content is base64, which JSON writes unchanged: its length is added without serializing it.
    sealed = len(draft.content) if ENCRYPTED in draft.tags else 0
    try:
        return (
            len(orjson.dumps((created_at, draft.kind, draft.tags, "" if sealed else draft.content)))
            + sealed
            + _AROUND
        )
    except TypeError as error:
        raise MalformedError("an event holds text that is not valid Unicode") from error


def check_size(
    draft: EventDraft, limit: int = MAX_EVENT_BYTES, *, hint: str = "Split the prompt into smaller pieces."
) -> EventDraft:
    """The draft itself, if its event fits. Raises `TooLargeError`, with the size and the limit, otherwise."""
    size = event_bytes(draft)
    if size > limit:
        raise TooLargeError(f"this makes an event of {size:,} bytes, and relays take at most {limit:,}", hint=hint)
    return draft
