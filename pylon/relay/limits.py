"""What one relay accepts from one peer, as numbers, and the token bucket that paces writes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """The relay's limits. Every one is told in the NIP-11 document and listed in `docs/relay.md`.

    The sizes are those that most relays of the network have, so that what fits here fits there.
    """

    message_bytes: int = 131_072
    """One websocket message; a longer one ends the connection (close code 1009)."""
    event_bytes: int = 65_536
    """One event as JSON."""
    tag_value_bytes: int | None = None
    """The value of a one-letter tag, in UTF-8; strfry has 1,024. None: no limit of its own."""
    subscriptions: int = 64
    """Open subscriptions a connection."""
    filters: int = 20
    """Filters in one REQ or COUNT."""
    filter_values: int = 3_000
    """Values in all lists of all filters of one REQ or COUNT; what looking them up may cost."""
    open_values: int = 30_000
    """What the open subscriptions of a connection take of the relay's memory, see `room`; an id takes one."""
    all_open_values: int = 1_000_000
    """The same, of all connections together. A connection is given its first 500 all the same."""
    results: int = 500
    """Stored events a filter answers with; a larger `limit` is lowered to it."""
    lookup_s: float = 2
    """Looking up what one REQ or COUNT asks for; one that takes longer is refused."""
    keys: int = 1_000
    """Public keys that one connection may authenticate as (NIP-42)."""
    connections: int = 4_000
    """Open connections; the next one is answered with HTTP 503."""
    queue_bytes: int = 32 * 1024 * 1024
    """What may wait for one slow reader before its connection is closed (close code 1013)."""
    queue_frames: int = 20_000
    """How many messages may wait for one slow reader, likewise."""
    in_flight: int = 256
    """Publications of one connection that wait for their OK; after that the relay stops reading from it."""
    waiting_bytes: int = 64 * 1024 * 1024
    """Publications of all connections that wait to be stored; after that the relay reads no more of them."""
    ahead_s: int = 900
    """How far `created_at` may lie in the future, seconds."""
    writes_per_minute: int | None = None
    """Events a connection may publish a minute, in bursts of up to as many. None: as many as it likes."""
    store_bytes: int | None = 1024 * 1024 * 1024
    """The file of stored events; its last tenth is for those that expire within a day. None: as large as the disk."""
    kinds: frozenset[int] | None = None
    """The kinds of events that are taken. None: all."""


class TokenBucket:
    """Lets `per_minute` things through a minute, and as many at once after a pause. Times are monotonic seconds."""

    def __init__(self, per_minute: int, now: float) -> None:
        self._per_minute = per_minute
        self._tokens = float(per_minute)
        self._at = now

    def take(self, now: float) -> bool:
        """Whether one more is allowed now; if so, it is counted."""
        refill = (now - self._at) * self._per_minute / 60
        self._tokens = min(float(self._per_minute), self._tokens + refill)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
