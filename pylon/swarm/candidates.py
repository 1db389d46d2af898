"""Providers in order of when they would be done, coarsely: the best in constant time, however many there are.

Expected seconds are sorted into steps of a quarter each. Providers of one step are near-equals, and one of them is
drawn at random, so that a thousand customers with the same figures do not all turn to the same machine.
"""

import math
import random
from collections.abc import Callable, Collection
from typing import Protocol

_FIRST_S = 0.02
_STEP = math.log(1.25)
_STEPS = 64
# So many of one step are looked at for one that is acceptable, before the next step's turn.
_TRIES = 8
_LAST_S = _FIRST_S * math.exp(_STEP * (_STEPS - 1))


def step(seconds: float) -> int:
    """The step of an expected completion time: 0 for the quickest, 63 for seven hours and more."""
    if seconds >= _LAST_S:
        return _STEPS - 1
    return int(math.log(max(seconds, _FIRST_S) / _FIRST_S) / _STEP)


class Candidate(Protocol):
    """What can be placed. Where it is stands in itself: among a hundred thousand, every further look-up is a miss."""

    provider: str
    # -1 while it is nowhere.
    step: int
    index: int


class Candidates[C: Candidate]:
    """Providers in steps. Placing, removing and choosing cost the same for ten as for a hundred thousand."""

    def __init__(self) -> None:
        self._steps: list[list[C]] = [[] for _ in range(_STEPS)]
        self.count = 0
        # Bit n is set while step n holds somebody, so that the lowest is found without a walk.
        self._filled = 0

    def put(self, candidate: C, at: int) -> None:
        """Places it in a step, or moves it there."""
        if candidate.step == at:
            return
        if candidate.step >= 0:
            self.remove(candidate)
        members = self._steps[at]
        candidate.step, candidate.index = at, len(members)
        members.append(candidate)
        self.count += 1
        self._filled |= 1 << at

    def remove(self, candidate: C) -> None:
        """Takes it out, wherever it is."""
        at = candidate.step
        if at < 0:
            return
        members = self._steps[at]
        last = members.pop()
        if last is not candidate:
            members[candidate.index] = last
            last.index = candidate.index
        candidate.step = -1
        self.count -= 1
        if not members:
            self._filled &= ~(1 << at)

    def choose(
        self,
        rng: random.Random,
        without: Collection[str] = (),
        *,
        worst: int = _STEPS - 1,
        accept: Callable[[C], bool] | None = None,
    ) -> C | None:
        """One of the best step whose provider is not in `without`, at random; none beyond the step `worst`.

        `accept` may turn a few down. Costs up to the size of `without` more.
        """
        filled = self._filled & ((2 << worst) - 1)
        tries = len(without) + (1 if accept is None else _TRIES)
        while filled:
            lowest = filled & -filled
            filled ^= lowest
            members = self._steps[lowest.bit_length() - 1]
            start = rng.randrange(len(members))
            for offset in range(min(len(members), tries)):
                found = members[(start + offset) % len(members)]
                if found.provider not in without and (accept is None or accept(found)):
                    return found
        return None
