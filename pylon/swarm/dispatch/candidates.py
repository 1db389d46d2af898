"""Providers in order of when they would be done, coarsely: the best in constant time, however many there are.

Expected seconds are sorted into steps of a quarter each. Providers of one step are near-equals, and one of them is
drawn at random, so that a thousand customers with the same figures do not all turn to the same machine. Where jobs
are known to wait behind those of others, whoever is done within that wait is a near-equal too.
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

    @property
    def soonest_s(self) -> float:
        """The least that whoever is in the lowest step needs, in seconds; infinite when nobody is there."""
        if not self._filled:
            return math.inf
        lowest = (self._filled & -self._filled).bit_length() - 1
        return _FIRST_S * math.exp(_STEP * lowest) if lowest else 0.0

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
        alike: int = 0,
        accept: Callable[[C], bool] | None = None,
    ) -> C | None:
        """One of the best step whose provider is not in `without`, at random; none beyond the step `worst`.

        Up to the step `alike` all are as good: each is drawn as often as it is quick. `accept` may turn a few down.
        Costs up to the size of `without` more.
        """
        filled = self._filled & ((2 << worst) - 1)
        tries = len(without) + (1 if accept is None else _TRIES)
        while filled:
            lowest = filled & -filled
            equals = filled & ((2 << alike) - 1)
            # What is in the first step comes before all others in any case: an idle machine of our own.
            if equals != lowest and lowest > 1 and equals:
                lowest = self._draw(rng, equals)
            filled ^= lowest
            members = self._steps[lowest.bit_length() - 1]
            start = rng.randrange(len(members))
            for offset in range(min(len(members), tries)):
                found = members[(start + offset) % len(members)]
                if found.provider not in without and (accept is None or accept(found)):
                    return found
        return None

    def _draw(self, rng: random.Random, filled: int) -> int:
        """One of these steps, so that each who is in them has a chance in proportion to speed."""
        steps = [at for at in range(filled.bit_length()) if filled >> at & 1]
        weights = [len(self._steps[at]) * math.exp(-_STEP * at) for at in steps]
        return 1 << rng.choices(steps, weights)[0]
