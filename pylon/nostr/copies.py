"""Which copies of a known event are handed over: a sender that repeats one over another relay wants an answer there.

A copy that comes `after_s` seconds or more after the event was repeated on purpose, and is handed over once for each
relay. One that comes sooner is a publication that went to several relays at once.
"""

from pylon.latest import Latest


class Copies:
    """When the last `capacity` events came, and over which relays. Pure: `now` is given, in monotonic seconds."""

    def __init__(self, after_s: float, capacity: int = 20_000) -> None:
        self._after_s = after_s
        # When each event came, and over which relays.
        self._came: Latest[str, tuple[float, tuple[str, ...]]] = Latest(capacity)

    def first(self, event_id: str, relay: str, now: float) -> None:
        """An event came for the first time."""
        self._came.put(event_id, (now, (relay,)))

    def is_first(self, event_id: str, relay: str) -> bool:
        """Whether this event is known, and has not come over this relay before."""
        came = self._came.get(event_id)
        return came is not None and relay not in came[1]

    def counts(self, event_id: str, relay: str, now: float) -> bool:
        """Whether to hand this copy over. Further copies from the same relay are not."""
        came = self._came.get(event_id)
        if came is None or relay in came[1]:
            return False
        at, relays = came
        self._came.put(event_id, (at, (*relays, relay)))
        return now - at >= self._after_s
