"""Which copies of a known event count: whoever sends one over another relay waits for an answer there.

One that comes `after_s` seconds or more after the event did was sent on purpose, and counts once a relay. What comes
sooner was published to several relays at once.
"""

from pylon.latest import Latest


class Copies:
    """See the module. Pure: `now` is given, in monotonic seconds. The last `capacity` events are known."""

    def __init__(self, after_s: float, capacity: int = 20_000) -> None:
        self._after_s = after_s
        # When each event came, and over which relays.
        self._came: Latest[str, tuple[float, tuple[str, ...]]] = Latest(capacity)

    def first(self, event_id: str, relay: str, now: float) -> None:
        """It came, and was not known."""
        self._came.put(event_id, (now, (relay,)))

    def is_first(self, event_id: str, relay: str) -> bool:
        """Whether this event is known, and not from there."""
        came = self._came.get(event_id)
        return came is not None and relay not in came[1]

    def counts(self, event_id: str, relay: str, now: float) -> bool:
        """Whether this copy is to be handed over; the next one from there is not."""
        came = self._came.get(event_id)
        if came is None or relay in came[1]:
            return False
        at, relays = came
        self._came.put(event_id, (at, (*relays, relay)))
        return now - at >= self._after_s
