"""Sub-calls under way, and the money that is set aside for those that are sent together."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pylon.rlm.budget import NOTHING, Budget, Cost, Refusal, Reservation
from pylon.rlm.charges import Tab
from pylon.rlm.gate import Gate, Ticket
from pylon.rlm.late import LateCharges
from pylon.rlm.sublm import Job, SubOutcome

# Failed jobs are asked again elsewhere, some get a second opinion, and a provider that was given up may still charge.
# For this, up to so many times the price of the calls is set aside in addition.
_EXTRA = 3


@dataclass(frozen=True, slots=True)
class Caller:
    """The loop that makes a call, its budget, and the turn that it is in."""

    loop: str
    budget: Budget
    turn: int


@dataclass(slots=True, eq=False)
class Call:
    """One call. `named` is the reference to its prompt for events; the job holds the prompt itself until there is an
    outcome. `waiters` counts the cells that wait for the outcome: equal prompts share one call."""

    id: str
    caller: Caller
    job: Job
    outcome: asyncio.Future[SubOutcome]
    named: dict[str, Any]
    waiters: int = 0
    reservation: Reservation | None = None
    ticket: Ticket | None = None
    spent: Cost = NOTHING
    # Bytes of the trajectory that are claimed for its prompt.
    claimed: int = 0


class Batch:
    """Calls that are sent together, from one budget.

    What is set aside for them is one sum for the sub-LM: what one call does not use may pay for another's second
    attempt. So nothing of it is given back before the ask has ended, and then only what can no longer be charged.
    `most_msat` is that sum, None without a limit; `tab` is what the ask has reported of its cost.
    """

    def __init__(self, budget: Budget, calls: Sequence[Call], gate: Gate, *, now: float) -> None:
        self.most_msat: int | None = None
        self._budget = budget
        self._calls = calls
        self._gate = gate
        self.tab = Tab()
        self._extra: Reservation | None = None
        left = budget.left(now=now).msat
        if left is not None:
            prices = sum(call.job.most_msat for call in calls)
            # At most half of what is left, so that other calls get some.
            extra = budget.reserve(Cost(msat=max(0, min(left // 2, _EXTRA * prices))), now=now)
            self._extra = None if isinstance(extra, Refusal) else extra
            self.most_msat = prices + (0 if self._extra is None else self._extra.cost.msat)

    def end(self, late: LateCharges) -> None:
        """Books all calls at what they cost; what may still be charged stays set aside. To be called when the ask has
        ended and each call has its outcome."""
        if self.most_msat is not None:
            caller, answers = self._calls[0].caller, sum(call.spent.msat for call in self._calls)
            late.hand_over(
                self.tab, self._budget, answers=answers, bound=self.most_msat, loop=caller.loop, turn=caller.turn
            )
        for call in self._calls:
            if call.reservation is not None:
                self._gate.settle(self._budget, call.reservation, call.spent)
        if self._extra is not None:
            self._gate.settle(self._budget, self._extra, NOTHING)
