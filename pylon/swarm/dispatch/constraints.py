"""What a lane asks about relays and budgets before it picks a provider for a slot. `InFlight` answers it."""

from collections.abc import Callable
from typing import Protocol

from pylon.swarm.dispatch.slot import Slot
from pylon.swarm.dispatch.standing import Standing

type May = Callable[[Slot, Standing], bool]
"""Whether this slot may go to that provider now."""


class Constraints(Protocol):
    """See the module."""

    def may(self, slot: Slot, standing: Standing) -> bool:
        """See `May`."""
        ...

    def is_short(self, slot: Slot) -> bool:
        """Whether this slot was just refused because its run has too little money left, and waiting may help.

        Reserved money may come back, or a cheaper provider is only busy.
        """
        ...

    def may_wait(self, slot: Slot) -> bool:
        """Whether its run could pay a familiar provider that this slot would wait for."""
        ...

    def lacks_as_much(self, slot: Slot) -> bool:
        """Whether this is known without a look: its run has no more left than one that was just found short."""
        ...
