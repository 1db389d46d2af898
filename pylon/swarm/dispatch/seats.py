"""The seats of a lane that have room, in order of expected completion; familiar providers are indexed a second time.

Keys cost nothing to make, and of a thousand new ones each may be mute. So where it matters a provider is drawn that
has answered us before.
"""

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pylon.swarm.dispatch.candidates import Candidates
from pylon.swarm.dispatch.standing import Standing

if TYPE_CHECKING:
    from pylon.swarm.dispatch.lane import Lane


@dataclass(slots=True, eq=False)
class _Familiar:
    """A seat's entry in the index of familiar providers: the same step, but another position in it."""

    seat: "Seat"
    provider: str
    step: int = -1
    index: int = 0


@dataclass(slots=True, eq=False)
class Seat:
    """A provider's place in a lane. `awake`: it does not rest. `silent`: it met our last request with silence.
    `is_familiar`: it is awake, and answered us before.
    """

    standing: Standing
    lane: "Lane"
    provider: str
    # See `Standing.weight`.
    weight: float = 1.0
    awake: bool = False
    silent: bool = False
    is_familiar: bool = False
    step: int = -1
    index: int = 0
    entry: _Familiar | None = None


class Seats:
    """See the module. What it costs does not grow with how many there are."""

    def __init__(self) -> None:
        self._all: Candidates[Seat] = Candidates()
        self._familiar: Candidates[_Familiar] = Candidates()

    @property
    def count(self) -> int:
        """How many seats have room."""
        return self._all.count

    @property
    def is_mixed(self) -> bool:
        """Whether some of these providers answered us before, and others did not."""
        return 0 < self._familiar.count < self._all.count

    @property
    def soonest_s(self) -> float:
        """The rank of the soonest seat, in seconds, rounded down to its step. See `Standing.rank`."""
        return self._all.soonest_s

    def put(self, seat: Seat, at: int) -> None:
        """Places a seat that has room at this step."""
        # Most often it is there already.
        if seat.step != at:
            self._all.put(seat, at)
        entry = seat.entry
        if seat.is_familiar:
            if entry is None:
                entry = seat.entry = _Familiar(seat, seat.provider)
            if entry.step != at:
                self._familiar.put(entry, at)
        elif entry is not None:
            self._familiar.remove(entry)

    def remove(self, seat: Seat) -> None:
        """Takes out a seat that has no room any more."""
        self._all.remove(seat)
        if seat.entry is not None:
            self._familiar.remove(seat.entry)

    def choose(
        self, rng: random.Random, without: Collection[str], *, worst: int, alike: int, accept: Callable[[Seat], bool]
    ) -> Seat | None:
        """See `Candidates.choose`."""
        return self._all.choose(rng, without, worst=worst, alike=alike, accept=accept)

    def choose_familiar(
        self, rng: random.Random, without: Collection[str], *, worst: int, alike: int, accept: Callable[[Seat], bool]
    ) -> Seat | None:
        """As `choose`, among providers that answered us before."""
        found = self._familiar.choose(
            rng, without, worst=worst, alike=alike, accept=lambda familiar: accept(familiar.seat)
        )
        return None if found is None else found.seat
