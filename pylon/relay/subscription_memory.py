"""The memory that open subscriptions take, counted in values of their filters, and its limits."""

from collections.abc import Iterable

from pylon.nostr.filter import Filter
from pylon.relay.limits import RelayLimits

# What each connection may hold even if others have filled the relay, so that they cannot shut out those who ask for
# little. A lookup of Pylon's own takes some 400, and it has 64 open at most.
ASSURED = 500
# A value counts once for each 64 characters, the length of an id.
_CHARACTERS = 64


def weigh(filters: Iterable[Filter]) -> int:
    """What filters take: one for each filter, one for each list in it, one for each 64 characters of each value."""
    return sum(map(_weigh, filters))


def _weigh(wanted: Filter) -> int:
    lists = [part for part in (wanted.ids, wanted.authors, wanted.kinds) if part is not None]
    short = sum(1 + len(part) for part in lists)
    return 1 + short + sum(1 + sum(map(_units, values)) for values in wanted.tags.values())


def _units(value: str) -> int:
    return max(1, -(-len(value) // _CHARACTERS))


class SubscriptionMemory:
    """What the subscriptions of all connections take together. Each connection keeps its own sum (`held`)."""

    def __init__(self, limits: RelayLimits) -> None:
        self._limits = limits
        self._taken = 0

    def refuse(self, held: int, more: int) -> str | None:
        """Why a connection that holds `held` may not open a subscription of weight `more`, or None."""
        limits = self._limits
        if held + more > limits.open_values:
            return f"error: at most {limits.open_values} values in the open subscriptions of a connection; close some"
        if held + more > ASSURED and self._taken + more > limits.all_open_values:
            return "error: the open subscriptions of all connections fill this relay; ask for less, or later"
        return None

    def take(self, more: int) -> None:
        """Counts a subscription of this weight that was opened."""
        self._taken += more

    def give_back(self, less: int) -> None:
        """Takes a subscription of this weight, which was closed, off the count."""
        self._taken -= less
