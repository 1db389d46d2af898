"""The cheapest members of a lane for jobs of one size, which are found by a look at all members, once a second."""

import math
from collections.abc import Iterable
from heapq import nsmallest

from pylon.swarm.dispatch.seats import Seat

_KEPT_S = 1.0


class Cheapest:
    """See the module. At most `most` are kept; some may have left, or got no room, since they were found."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seats: list[Seat] = []
        self._size = (0, 0)
        self._until = -math.inf

    def of(self, seats: Iterable[Seat], size: tuple[int, int], now: float) -> list[Seat]:
        """The cheapest of these seats, which are looked at only now and then. `size`: prompt and answer tokens."""
        if size != self._size or now >= self._until:
            self._seats = nsmallest(self._most, seats, key=lambda seat: seat.standing.quote(*size))
            self._size, self._until = size, now + _KEPT_S
        return self._seats
