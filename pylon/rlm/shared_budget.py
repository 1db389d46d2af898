"""One budget for several runs, as for the questions of a set."""

from dataclasses import replace

from pylon.clock import Clock
from pylon.rlm.budget import Budget, Limits
from pylon.rlm.gate import Gate
from pylon.rlm.unsettled import Unsettled


class SharedBudget:
    """A budget that several runs spend from, possibly at the same time, with the queue in front of it.

    `limits` have the form of one run's and hold for all runs together. Wall time counts from construction.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        # It stands above the budgets of the runs but is no loop, so one more level of depth is allowed below it.
        self.budget = Budget(replace(limits, depth=limits.depth + 1), now=clock.monotonic(), depth=-1)
        self.gate = Gate(clock)
        # What finished runs may still be charged stays set aside, so that the other runs cannot spend it.
        self.unsettled = Unsettled(self.gate)

    async def close(self) -> None:
        """Stops asking after open charges. To be called when the last run is over."""
        await self.unsettled.close()
