"""How well a provider knows its customers, by the jobs that it has done for them.

Keys cost nothing to make, so a flood of them is a flood of strangers, and soon of keys whose first job was just done.
Customers of a standing share a line of the queue, and the lines take turns: a flood delays those who came with it,
and takes a bounded part from the others.
"""

from collections.abc import Iterable
from enum import StrEnum

from pylon.latest import Latest

# How long after its first job a key must have had another one done to be a regular. Whoever floods would have to wait
# that long with each key.
REGULAR_AFTER_S = 3_600.0
# A customer that took back so many more priced jobs on which the model worked than it had done is a stranger: these
# cost it nothing, and with a deposit of one sat it could have a customer's share of the model for ever.
WASTED = 3
# How many keys of each standing are remembered, the latest ones. Those of a flood do not push out regulars.
MOST = 10_000


class Standing(StrEnum):
    """What a key is to the provider. The values are for people to read."""

    STRANGER = "new"
    RECENT = "recent"
    REGULAR = "regular"


class Customers:
    """The keys for which a job was done. Pure: times are passed in, in Unix seconds."""

    def __init__(self) -> None:
        # When the first job of each was done.
        self._recent: Latest[str, float] = Latest(MOST)
        self._regular: Latest[str, None] = Latest(MOST)
        # How many more of its jobs each has taken back than it had done.
        self._wasted: Latest[str, int] = Latest(MOST)

    def standing(self, customer: str) -> Standing:
        """What this key is now."""
        if (self._wasted.get(customer) or 0) >= WASTED:
            return Standing.STRANGER
        if customer in self._regular:
            return Standing.REGULAR
        return Standing.RECENT if customer in self._recent else Standing.STRANGER

    def served(self, customer: str, now: float) -> None:
        """Notes that a job of this key was done."""
        if (wasted := self._wasted.pop(customer) or 0) > 1:
            self._wasted.put(customer, wasted - 1)
        first = self._recent.get(customer)
        if customer in self._regular or (first is not None and now - first >= REGULAR_AFTER_S):
            self._recent.pop(customer)
            self._regular.put(customer, None)
        else:
            self._recent.put(customer, now if first is None else first)

    def wasted(self, customer: str) -> None:
        """Notes that this key took a priced job back on which the model worked, and that cost it nothing."""
        self._wasted.put(customer, min(WASTED, (self._wasted.get(customer) or 0) + 1))

    def restore(self, served: Iterable[tuple[str, float, float]]) -> None:
        """Takes in what a journal knows: keys, and when the first and the last of their jobs came."""
        for customer, first, last in served:
            self.served(customer, first)
            self.served(customer, last)
