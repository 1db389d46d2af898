"""How often requests are met with silence, and how much one silence says against the provider that was asked.

A relay that loses one live event in three makes every provider look dead now and then, while a dead provider is
silent every time. So a provider is blamed for a streak of silences only if a streak that long is unlikely to be
chance, given how often requests are met with silence here.
"""

import math

# Weight of the newest outcome in the moving average: some dozens of outcomes decide.
_WEIGHT = 0.03
# No more than this is put down to relays: of a larger share, providers are a cause too.
_MOST_LOST = 0.5
# A streak whose chance is below this is the provider's doing.
_CHANCE = 0.02
FEWEST, MOST = 2, 6
# Up to this share of silences, `FEWEST` in a row are enough.
_RARE = _CHANCE ** (1 / FEWEST)


class Silence:
    """The share of recent requests that met silence; 0 at the start."""

    def __init__(self) -> None:
        # The values below are read far more often than the share changes, so they are stored.
        self._share = 0.0
        self.is_common = False
        """Whether one silence is more likely the relay's doing than the provider's."""
        self.lost = 0.0
        """The share of requests taken to be lost by relays."""
        self.enough = FEWEST
        """How many silences in a row are not chance: 2 where hardly any request is lost, 4 where three in ten are."""

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
        """A request was met with silence, or its provider said something."""
        if silent or self._share:
            self.share += _WEIGHT * (silent - self._share)


def _enough(share: float) -> int:
    if share <= _RARE:
        return FEWEST
    if share >= 1.0:
        return MOST
    return min(MOST, max(FEWEST, math.ceil(math.log(_CHANCE) / math.log(share))))
