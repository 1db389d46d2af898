"""Sub-calls under way, and what is set aside for those that went out together."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pylon.rlm.budget import NOTHING, Budget, Cost, Refusal, Reservation
from pylon.rlm.charges import Tab
from pylon.rlm.gate import Gate, Ticket
from pylon.rlm.late import LateCharges
from pylon.rlm.sublm import Job, SubOutcome

# Jobs that fail are asked again elsewhere, and some get a second opinion. Whoever was given up may charge all the
# same: for this, up to so many times the price of the calls is set aside.
_BESIDE = 3


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf: the loop, its budget, and the turn that it is in."""

    loop: str
    budget: Budget
    turn: int


@dataclass(slots=True, eq=False)
class Call:
    """One prompt. `named` is what events say of it; the job holds it until there is an outcome. `waiters` are the
    cells that want it: an equal prompt of another one waits for the same outcome."""

    id: str
    caller: Caller
    job: Job
    outcome: asyncio.Future[SubOutcome]
    named: dict[str, Any]
    waiters: int = 0
    reservation: Reservation | None = None
    ticket: Ticket | None = None
    spent: Cost = NOTHING
    # Bytes of the trajectory that are kept for its prompt.
    claimed: int = 0


class Batch:
    """Calls that went out together, on one budget. What is set aside for them is one sum to whoever asks them: what
    one call leaves may go to another's second attempt. So nothing of it is free before the ask is over, nor then
    what it may be charged yet. `tab` is what it tells of that.

    `most_msat` is that sum, None without a limit.
    """

    def __init__(self, budget: Budget, calls: Sequence[Call], gate: Gate, *, now: float) -> None:
        self.most_msat: int | None = None
        self._budget = budget
        self._calls = calls
        self._gate = gate
        self.tab = Tab()
        self._beside: Reservation | None = None
        left = budget.left(now=now).msat
        if left is not None:
            prices = sum(call.job.most_msat for call in calls)
            # At most half of what is left, as others need some.
            beside = budget.reserve(Cost(msat=max(0, min(left // 2, _BESIDE * prices))), now=now)
            self._beside = None if isinstance(beside, Refusal) else beside
            self.most_msat = prices + (0 if self._beside is None else self._beside.cost.msat)

    def end(self, late: LateCharges) -> None:
        """The ask is over, and each of them has its outcome. All are booked, at what they did cost; what may yet be
        charged stays set aside."""
        if self.most_msat is not None:
            caller, answers = self._calls[0].caller, sum(call.spent.msat for call in self._calls)
            late.hand_over(
                self.tab, self._budget, answers=answers, bound=self.most_msat, loop=caller.loop, turn=caller.turn
            )
        for call in self._calls:
            if call.reservation is not None:
                self._gate.settle(self._budget, call.reservation, call.spent)
        if self._beside is not None:
            self._gate.settle(self._budget, self._beside, NOTHING)
