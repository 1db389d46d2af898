"""Providers in a coarse order of expected completion: the best is found in constant time, however many there are.

Expected seconds are sorted into steps, each a quarter longer than the one before. Providers of one step are
near-equals, and one of them is drawn at random, so that a thousand customers with the same figures do not all turn to
the same machine. Where jobs are known to wait behind those of other customers, all providers that would be done
within that wait are near-equals too.
"""

import math
import random
from collections.abc import Callable, Collection
from typing import Protocol

_FIRST_S = 0.02
_STEP = math.log(1.25)
_STEPS = 64
# How many providers of one step are tried for an acceptable one before the next step.
_TRIES = 8
_LAST_S = _FIRST_S * math.exp(_STEP * (_STEPS - 1))


def step(seconds: float) -> int:
    """The step of an expected completion time: 0 for the quickest, 63 for seven hours and more."""
    if seconds >= _LAST_S:
        return _STEPS - 1
    return int(math.log(max(seconds, _FIRST_S) / _FIRST_S) / _STEP)


class Candidate(Protocol):
    """What can be placed in a step.

    It holds its own position: with a hundred thousand of them a look-up table would cost a cache miss each time.
    """

    provider: str
    # -1 while it is not placed.
    step: int
    index: int


class Candidates[C: Candidate]:
    """Providers in steps. Placing, removing and choosing cost the same for ten as for a hundred thousand."""

    def __init__(self) -> None:
        self._steps: list[list[C]] = [[] for _ in range(_STEPS)]
        self.count = 0
        # Bit n is set while step n is not empty, so that the lowest one is found without a walk.
        self._filled = 0

    @property
    def soonest_s(self) -> float:
        """The lower bound of the lowest step that is not empty, in seconds; infinite when all are."""
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
        """Takes it out of its step, if it is in one."""
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
        """Draws one of the best step, at random, whose provider is not in `without`; None if none up to `worst` will
        do.

        All up to the step `alike` count as equally good, and are drawn in proportion to their speed. `accept` may
        turn down a few of each step. A large `without` makes it cost more, by its size at most.
        """
        filled = self._filled & ((2 << worst) - 1)
        tries = len(without) + (1 if accept is None else _TRIES)
        while filled:
            lowest = filled & -filled
            equals = filled & ((2 << alike) - 1)
            # The first step comes before all others in any case: it holds idle machines of our own.
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
        """One of these steps, drawn so that each provider in them has a chance in proportion to its speed."""
        steps = [at for at in range(filled.bit_length()) if filled >> at & 1]
        weights = [len(self._steps[at]) * math.exp(-_STEP * at) for at in steps]
        return 1 << rng.choices(steps, weights)[0]
