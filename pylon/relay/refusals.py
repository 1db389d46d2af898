"""Refusals of client messages, in the form that the sender waits for if that can be told, and of too many filters."""

from collections.abc import Sequence

import orjson

from pylon.errors import MalformedError
from pylon.nostr.event import is_hex64
from pylon.nostr.filter import Filter
from pylon.nostr.messages import MAX_SUBSCRIPTION_ID, Closed, Notice, Ok
from pylon.relay.limits import RelayLimits


def refusal(frame: bytes, error: MalformedError) -> Ok | Closed | Notice:
    """The answer to a malformed message (NIP-01): OK for an event with an id, CLOSED for a REQ or COUNT with a name,
    NOTICE for all else.
    """
    text = f"invalid: {error}"
    try:
        message = orjson.loads(frame)
    except orjson.JSONDecodeError:
        return Notice(text)
    match message:
        case ["EVENT" | "AUTH", {"id": str(id_)}, *_] if is_hex64(id_):
            return Ok(id_, False, text)
        case ["REQ" | "COUNT", str(name), *_] if 1 <= len(name) <= MAX_SUBSCRIPTION_ID:
            return Closed(name, text)
        case _:
            return Notice(text)


def refuse_filters(filters: Sequence[Filter], limits: RelayLimits) -> str | None:
    """Why these filters of one REQ or COUNT exceed the relay's limits, or None."""
    if len(filters) > limits.filters:
        return f"invalid: at most {limits.filters} filters at a time"
    lists = (part for wanted in filters for part in (wanted.ids, wanted.authors, wanted.kinds, *wanted.tags.values()))
    if sum(len(part) for part in lists if part is not None) > limits.filter_values:
        return f"invalid: at most {limits.filter_values} values in the filters of one message"
    return None
