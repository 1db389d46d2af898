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
        # What follows from the share is asked far more often than it changes.
        self._share = 0.0
        self.is_common = False
        """Whether one silence is more likely the relay's doing than the provider's."""
        self.lost = 0.0
        """The share of requests that never arrive, as far as relays lose them."""
        self.enough = FEWEST
        """So many in a row are not chance any more: 2 where hardly any are lost, 4 where three in ten are."""

    @property
    def share(self) -> float:
        return self._share

    @share.setter
    def share(self, share: float) -> None:
        self._share = share
        self.enough = _enough(share)
        self.is_common = self.enough > FEWEST
        self.lost = min(share, _MOST_LOST) if self.is_common else 0.0

    def saw(self, silent: bool) -> None:
        """A request was met with silence, or with a word."""
        if silent or self._share:
            self.share += _WEIGHT * (silent - self._share)


def _enough(share: float) -> int:
    if share <= _RARE:
        return FEWEST
    if share >= 1.0:
        return MOST
    return min(MOST, max(FEWEST, math.ceil(math.log(_CHANCE) / math.log(share))))
