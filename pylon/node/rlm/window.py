"""Decides how long the prompts of a run may be, when providers announce windows of different sizes. Pure.

A job goes only to providers whose window holds it, so a few small windows need not make all pieces small. Announcing
costs strangers nothing: a few of them must not decide, and none if trusted providers are available.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# The most that a provider without proven answers is trusted; see `swarm.checks.reputation`.
_UNKNOWN = 0.5
# The most slots that a stranger is believed to have.
BELIEVED_SLOTS = 16


@dataclass(frozen=True, slots=True)
class Announced:
    """A ready provider: its window for the model in question, in tokens (0: unknown), its slots, and its trust from 0
    to 1 (1: a machine of one's own)."""

    context: int
    slots: int
    trust: float

    @property
    def weight(self) -> float:
        """Its weight in the decision."""
        return self.slots if self.trust >= 1.0 else self.trust * min(self.slots, BELIEVED_SLOTS)

    def holds(self, window: int) -> bool:
        """Whether jobs of this many tokens go to it."""
        return not self.context or self.context >= window


def window_of(ready: Sequence[Announced]) -> int:
    """The largest window, in tokens, that at least half of the providers have, weighted by slots and trust; 0 if no
    window is known.

    If there are known providers, that is one's own machines and those whose answers passed checks, they alone decide.
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
