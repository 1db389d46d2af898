"""Seats of a lane, with room, in order of when their providers would be done; and those who answered before, apart.

Keys cost nothing. Of a thousand new ones each may be mute, so where it matters somebody is drawn whom we have heard.
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
    """Where a seat stands among the familiar: at the same step, but that has a place of its own."""

    seat: "Seat"
    provider: str
    step: int = -1
    index: int = 0


@dataclass(slots=True, eq=False)
class Seat:
    """A provider's place in a lane. `awake` is one that does not rest, `silent` one that met its last request so."""

    standing: Standing
    lane: "Lane"
    provider: str
    # See `Standing.weight`.
    weight: float = 1.0
    awake: bool = False
    silent: bool = False
    step: int = -1
    index: int = 0
    familiar: _Familiar | None = None


class Seats:
    """See the module. What it costs does not grow with how many there are."""

    def __init__(self) -> None:
        self._all: Candidates[Seat] = Candidates()
        self._familiar: Candidates[_Familiar] = Candidates()

    @property
    def count(self) -> int:
        """How many have room."""
        return self._all.count

    @property
    def is_mixed(self) -> bool:
        """Whether some of them answered before, and others did not."""
        return 0 < self._familiar.count < self._all.count

    @property
    def soonest_s(self) -> float:
        """When the first of them would be done, as ranks are: in steps."""
        return self._all.soonest_s

    def put(self, seat: Seat, at: int) -> None:
        """It has room, and would be done so soon."""
        self._all.put(seat, at)
        if seat.standing.is_familiar:
            seat.familiar = seat.familiar or _Familiar(seat, seat.provider)
            self._familiar.put(seat.familiar, at)
        elif seat.familiar is not None:
            self._familiar.remove(seat.familiar)

    def remove(self, seat: Seat) -> None:
        """It has no room."""
        self._all.remove(seat)
        if seat.familiar is not None:
            self._familiar.remove(seat.familiar)

    def choose(
        self, rng: random.Random, without: Collection[str], *, worst: int, alike: int, accept: Callable[[Seat], bool]
    ) -> Seat | None:
        """See `Candidates.choose`."""
        return self._all.choose(rng, without, worst=worst, alike=alike, accept=accept)

    def choose_familiar(
        self, rng: random.Random, without: Collection[str], *, worst: int, alike: int, accept: Callable[[Seat], bool]
    ) -> Seat | None:
        """The same among those who answered before."""
        found = self._familiar.choose(
            rng, without, worst=worst, alike=alike, accept=lambda familiar: accept(familiar.seat)
        )
        return None if found is None else found.seat
