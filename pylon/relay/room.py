"""Room in memory for open subscriptions: what filters take of it, and who is given more."""

from collections.abc import Iterable

from pylon.nostr.filter import Filter
from pylon.relay.limits import RelayLimits

# So much a connection may hold whatever others do: whoever fills the room shuts out nobody who asks for little. A
# lookup of Pylon's own takes some 400, and it has 64 open at most.
ASSURED = 500
# Longer values count once for each so many characters. An id has 64.
_CHARACTERS = 64


def weigh(filters: Iterable[Filter]) -> int:
    """What filters take: one for each of them, for each list in them, and for each value of up to 64 characters."""
    return sum(map(_weigh, filters))


def _weigh(wanted: Filter) -> int:
    lists = [part for part in (wanted.ids, wanted.authors, wanted.kinds) if part is not None]
    short = sum(1 + len(part) for part in lists)
    return 1 + short + sum(1 + sum(map(_units, values)) for values in wanted.tags.values())


def _units(value: str) -> int:
    return max(1, -(-len(value) // _CHARACTERS))


class Room:
    """What all connections of a relay hold together. Each of them knows what it holds itself, `held`."""

    def __init__(self, limits: RelayLimits) -> None:
        self._limits = limits
        self._taken = 0

    def refuse(self, held: int, more: int) -> str | None:
        """Why a connection that holds so much is given no more, or None."""
        limits = self._limits
        if held + more > limits.open_values:
            return f"error: at most {limits.open_values} values in the open subscriptions of a connection; close some"
        if held + more > ASSURED and self._taken + more > limits.all_open_values:
            return "error: the open subscriptions of all connections fill this relay; ask for less, or later"
        return None

    def take(self, more: int) -> None:
        """A subscription of this weight was opened."""
        self._taken += more

    def give_back(self, less: int) -> None:
        """It was closed."""
        self._taken -= less
