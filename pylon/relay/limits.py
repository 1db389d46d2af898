"""The relay's limits."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """The relay's limits, all of which are published in the NIP-11 document and listed in `docs/relay.md`.

    The sizes are common among public relays, so that an event that is accepted here is most likely accepted there.
    """

    message_bytes: int = 131_072
    """Bytes of one websocket message; a longer one ends the connection (close code 1009)."""
    event_bytes: int = 65_536
    """Bytes of one event as JSON."""
    tag_value_bytes: int | None = None
    """Bytes of the value of a one-letter tag; strfry allows 1,024. None: only the event is limited."""
    subscriptions: int = 64
    """Open subscriptions per connection."""
    filters: int = 20
    """Filters in one REQ or COUNT."""
    filter_values: int = 3_000
    """Values in all lists of all filters of one REQ or COUNT: a bound on what looking them up costs."""
    open_values: int = 30_000
    """Memory for a connection's open subscriptions, in the units of `subscription_memory.weigh`: an id is one."""
    all_open_values: int = 1_000_000
    """The same for all connections together, except that each of them always gets its first 500."""
    results: int = 500
    """Stored events that a filter is answered with; a larger `limit` is lowered to this."""
    lookup_s: float = 2
    """Seconds to look up what one REQ or COUNT asks for; one that takes longer is refused."""
    keys: int = 1_000
    """Public keys that one connection may authenticate as (NIP-42)."""
    connections: int = 4_000
    """Open connections; the next one is answered with HTTP 503."""
    queue_bytes: int = 32 * 1024 * 1024
    """Bytes that may wait for one slow reader before its connection is closed (close code 1013)."""
    queue_frames: int = 20_000
    """Messages that may wait for one slow reader before its connection is closed (close code 1013)."""
    in_flight: int = 256
    """Events of one connection that wait for their OK; at this number the relay stops reading from it."""
    waiting_bytes: int = 64 * 1024 * 1024
    """Bytes of events that wait to be stored, of all connections; at this size no more are read."""
    ahead_s: int = 900
    """Seconds that `created_at` may lie in the future."""
    writes_per_minute: int | None = None
    """Events that a connection may publish per minute, and in one burst. None: any number."""
    store_bytes: int | None = 1024 * 1024 * 1024
    """Bytes of the file; its last tenth is for events that expire within a day. None: as large as the disk."""
    kinds: frozenset[int] | None = None
    """The kinds of events that are accepted. None: all."""
