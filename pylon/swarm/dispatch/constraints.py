"""What relays and budgets have left, as lanes ask for it."""

from collections.abc import Callable
from typing import Protocol

from pylon.swarm.dispatch.slot import Slot
from pylon.swarm.dispatch.standing import Standing

type May = Callable[[Slot, Standing], bool]
"""Whether this slot may go to that provider just now."""


class Constraints(Protocol):
    """See the module."""

    def may(self, slot: Slot, standing: Standing) -> bool:
        """See `May`."""
        ...

    def is_short(self, slot: Slot) -> bool:
        """Whether it may go nowhere since its run's money is out, and waiting may help.

        Some of that may come back, or somebody cheaper is only busy.
        """
        ...

    def lacks_as_much(self, slot: Slot) -> bool:
        """Whether the same is true of it as of one that was looked at before."""
        ...
