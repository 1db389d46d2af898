"""How long the prompts of a run may be, where providers announce windows of different sizes. It decides only.

A job goes to those alone whose window holds it, so a small window is no reason to cut all texts small. What strangers
announce costs them nothing: no few of them may decide it, and none where others are known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# Of whom nothing good was seen is trusted so much at most: `swarm.checks.reputation`.
_UNKNOWN = 0.5
# Slots are what a provider says of itself.
BELIEVED_SLOTS = 16


@dataclass(frozen=True, slots=True)
class Announced:
    """One ready provider: its window for the model in question, in tokens (0: unknown), its slots, and how much it is
    trusted, 0 to 1 (one's own machines are trusted whole)."""

    context: int
    slots: int
    trust: float

    @property
    def weight(self) -> float:
        """What it counts."""
        return self.slots if self.trust >= 1.0 else self.trust * min(self.slots, BELIEVED_SLOTS)

    def holds(self, window: int) -> bool:
        """Whether jobs of this size go there."""
        return not self.context or self.context >= window


def window_of(ready: Sequence[Announced]) -> int:
    """The largest window, in tokens, that at least half of them have, weighed by slots and trust; 0 when none says.

    Those who are known decide it alone: one's own machines, and those whose answers passed checks.
    """
    telling = [one for one in ready if one.context > 0 and one.weight > 0]
    known = [one for one in telling if one.trust > _UNKNOWN]
    deciding = sorted(known or telling, key=lambda one: one.context, reverse=True)
    half = sum(one.weight for one in deciding) / 2
    weight = 0.0
    for one in deciding:
        weight += one.weight
        if weight >= half:
            return one.context
    return 0
