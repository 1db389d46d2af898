"""Cancelling requests: a deletion (kind 5, NIP-09) that also names the provider, so that it receives the event."""

from dataclasses import dataclass

from pylon.errors import MalformedError
from pylon.jobs.kinds import DELETION, SCHEMA
from pylon.jobs.size import check_size
from pylon.nostr.event import Event, EventDraft, is_hex64


@dataclass(frozen=True, slots=True)
class Cancellation:
    """The ids of requests whose `customer` no longer wants an answer."""

    customer: str
    requests: tuple[str, ...]


def cancel_draft(requests: tuple[str, ...], request_kind: int, provider: str, *, created_at: int) -> EventDraft:
    """The event, to be signed by the requests' author.

    Raises `TooLargeError` for more requests than one event holds (some 900), `MalformedError` for none or for what
    is not an id.
    """
    if not requests or not all(is_hex64(id_) for id_ in (*requests, provider)):
        raise MalformedError("a cancellation names requests and a provider by 64 lower-case hex characters each")
    tags = (*(("e", id_) for id_ in requests), ("k", str(request_kind)), ("p", provider), ("v", SCHEMA))
    draft = EventDraft(DELETION, "", tags, created_at)
    return check_size(draft, hint="Cancel fewer jobs at once.")


def parse_cancel(event: Event) -> Cancellation:
    """The cancellation in a verified event. Raises `MalformedError` when it names no request."""
    if event.kind != DELETION:
        raise MalformedError(f"kind {event.kind} is not a cancellation")
    requests = tuple(id_ for id_ in event.tag_values("e") if is_hex64(id_))
    if not requests:
        raise MalformedError("a cancellation must name a request in an e tag")
    return Cancellation(event.pubkey, requests)
