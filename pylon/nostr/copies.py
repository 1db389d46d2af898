"""Which copies of a known event count: whoever sends one over another relay waits for an answer there.

One that comes `after_s` seconds or more after the event did was sent on purpose, and counts once a relay. What comes
sooner was published to several relays at once.
"""

from collections import OrderedDict


class Copies:
    """See the module. Pure: `now` is given, in monotonic seconds. The last `capacity` events are known."""

    def __init__(self, after_s: float, capacity: int = 20_000) -> None:
        self._after_s = after_s
        self._capacity = capacity
        # When each event came, and over which relays.
        self._came: OrderedDict[str, tuple[float, tuple[str, ...]]] = OrderedDict()

    def first(self, event_id: str, relay: str, now: float) -> None:
        """It came, and was not known."""
        self._came[event_id] = (now, (relay,))
        if len(self._came) > self._capacity:
            self._came.popitem(last=False)

    def is_first(self, event_id: str, relay: str) -> bool:
        """Whether this event is known, and not from there."""
        came = self._came.get(event_id)
        return came is not None and relay not in came[1]

    def counts(self, event_id: str, relay: str, now: float) -> bool:
        """Whether this copy is to be handed over; the next one from there is not."""
        if not self.is_first(event_id, relay):
            return False
        at, relays = self._came[event_id]
        self._came[event_id] = (at, (*relays, relay))
        return now - at >= self._after_s
