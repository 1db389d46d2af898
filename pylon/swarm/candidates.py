"""Providers in order of when they would be done, coarsely: the best in constant time, however many there are.

Expected seconds are sorted into steps of a quarter each. Providers of one step are near-equals, and one of them is
drawn at random, so that a thousand customers with the same figures do not all turn to the same machine.
"""

import math
import random
from collections.abc import Callable, Collection

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


class Candidates:
    """Keys in steps. Placing, removing and choosing cost the same for ten as for a hundred thousand."""

    def __init__(self) -> None:
        self._steps: list[list[str]] = [[] for _ in range(_STEPS)]
        self._place: dict[str, tuple[int, int]] = {}
        # Bit n is set while step n holds a key, so that the lowest is found without a walk.
        self._filled = 0

    def __len__(self) -> int:
        return len(self._place)

    def __contains__(self, key: str) -> bool:
        return key in self._place

    def put(self, key: str, at: int) -> None:
        """Places the key in a step, or moves it there."""
        place = self._place.get(key)
        if place is not None:
            if place[0] == at:
                return
            self.remove(key)
        members = self._steps[at]
        self._place[key] = (at, len(members))
        members.append(key)
        self._filled |= 1 << at

    def remove(self, key: str) -> None:
        """Takes the key out; unknown keys are ignored."""
        place = self._place.pop(key, None)
        if place is None:
            return
        at, index = place
        members = self._steps[at]
        last = members.pop()
        if last != key:
            members[index] = last
            self._place[last] = (at, index)
        if not members:
            self._filled &= ~(1 << at)

    def choose(
        self,
        rng: random.Random,
        without: Collection[str] = (),
        *,
        worst: int = _STEPS - 1,
        accept: Callable[[str], bool] | None = None,
    ) -> str | None:
        """One of the best step that is not in `without`, at random; none beyond the step `worst`.

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
                key = members[(start + offset) % len(members)]
                if key not in without and (accept is None or accept(key)):
                    return key
        return None
