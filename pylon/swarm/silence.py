"""How often requests are met with silence, and how much one silence says against the provider that was asked.

A relay that loses one live event in three makes every provider look dead now and then; a provider that is dead is
silent every time. So it is counted how many in a row one provider left unanswered, and how rare that is here.
"""

import math

# The newest outcome counts for so much: some dozens of the last ones decide.
_WEIGHT = 0.03
# More than one in two is the doing of providers, too.
_MOST_LOST = 0.5
# A streak that chance makes more seldom than this is the provider's doing.
_CHANCE = 0.02
FEWEST, MOST = 2, 6
# Where no larger share is lost, the fewest are enough.
_RARE = _CHANCE ** (1 / FEWEST)


class Silence:
    """The share of requests, of late, of which no word came; at the start none."""

    def __init__(self) -> None:
        self.share = 0.0

    def saw(self, silent: bool) -> None:
        """A request was met with silence, or with a word."""
        self.share += _WEIGHT * (silent - self.share)

    @property
    def is_common(self) -> bool:
        """Whether one silence is more likely the relay's doing than the provider's."""
        return self.enough > FEWEST

    @property
    def lost(self) -> float:
        """The share of requests that never arrive, as far as relays lose them."""
        return min(self.share, _MOST_LOST) if self.is_common else 0.0

    @property
    def enough(self) -> int:
        """So many in a row are not chance any more: 2 where hardly any are lost, 4 where three in ten are."""
        if self.share <= _RARE:
            return FEWEST
        if self.share >= 1.0:
            return MOST
        return min(MOST, max(FEWEST, math.ceil(math.log(_CHANCE) / math.log(self.share))))
