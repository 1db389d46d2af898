"""What several runs spend from together."""

from dataclasses import replace

from pylon.clock import Clock
from pylon.rlm.budget import Budget, Limits
from pylon.rlm.gate import Gate
from pylon.rlm.unsettled import Unsettled


class Purse:
    """One budget for several runs, which may go on beside each other, with the queue before it.

    `limits` are those of one run, and hold for all of them together. Time counts from when it is made.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        # It is no loop, and so no level of them.
        self.budget = Budget(replace(limits, depth=limits.depth + 1), now=clock.monotonic(), depth=-1)
        self.gate = Gate(clock)
        # What runs that are over were not charged yet is not the others' to spend.
        self.unsettled = Unsettled(self.gate)

    async def close(self) -> None:
        """When the last of them is over."""
        await self.unsettled.close()
