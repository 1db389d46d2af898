"""What runs may cost: reserved before a request goes out, settled by its receipt, never passed.

An attempt that is given up keeps its whole reservation: whoever was told to stop may have worked already, and its
receipt may yet come. That settles it, after the run is over too, or its provider's word that it is not done, or the
time from which no receipt is taken any more. Until then the sum errs towards what could have been charged. Amounts
are msat, as plain `int`.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class RunBudget:
    """What one run may cost, and does: `reserved` for attempts that are waited for, `open` for those that were given
    up and may be charged all the same, `spent` by receipts. `over`: nothing more goes out for it.

    Whoever asked may hold it for longer than the run lasts.
    """

    limit: int
    reserved: int = 0
    open: int = 0
    spent: int = 0
    over: bool = False

    @property
    def most(self) -> int:
        """What it can come to by what is out now."""
        return self.spent + self.reserved + self.open

    @property
    def left(self) -> int:
        """What may still be reserved."""
        return self.limit - self.most

    @property
    def decided(self) -> bool:
        """Whether nothing of it will change."""
        return self.over and not self.open


@dataclass(slots=True, eq=False)
class Claim:
    """What an attempt that was given up may still be charged. `live` while that is not known."""

    attempt: int
    budget: RunBudget
    cost: int
    live: bool = True


class Budgets:
    """By number of the run. Runs without a limit can pay anything."""

    def __init__(self) -> None:
        self.by_run: dict[int, RunBudget] = {}
        """Those of runs with a limit; most have none, and nothing needs to be counted then."""
        # By the attempt; their runs may be over.
        self._claims: dict[int, Claim] = {}

    def fund(self, run: int, msat: int | None) -> None:
        """Sets the most that a run may cost, over what was set before; None takes the limit away."""
        budget = self.by_run.get(run)
        if msat is None:
            self.by_run.pop(run, None)
        elif budget is None:
            self.by_run[run] = RunBudget(msat)
        else:
            budget.limit = msat

    def end(self, run: int) -> None:
        """Nothing more goes out for a run. What may still be charged for it stays in its budget."""
        if (budget := self.by_run.pop(run, None)) is not None:
            budget.over = True

    def left(self, run: int) -> int | None:
        """What may still be reserved; None without a limit."""
        budget = self.by_run.get(run)
        return None if budget is None else budget.left

    def reserved(self, run: int) -> int:
        """What attempts that are waited for may cost."""
        budget = self.by_run.get(run)
        return 0 if budget is None else budget.reserved

    def reserve(self, run: int, cost: int) -> None:
        """Sets aside what an attempt may cost; `left` was asked before."""
        if (budget := self.by_run.get(run)) is not None:
            budget.reserved += cost

    def settle(self, run: int, cost: int, charged: int) -> None:
        """What was reserved for an attempt has become this charge; more than was reserved is counted too."""
        if (budget := self.by_run.get(run)) is not None:
            budget.reserved -= cost
            budget.spent += charged

    def give_up(self, run: int, attempt: int, cost: int) -> Claim | None:
        """An attempt is not waited for any more, and may be charged all that was reserved for it. None: that is
        nothing, or its run has no limit."""
        budget = self.by_run.get(run)
        if budget is None or not cost:
            return None
        budget.reserved -= cost
        budget.open += cost
        claim = self._claims[attempt] = Claim(attempt, budget, cost)
        return claim

    def owe(self, run: int, attempt: int, cost: int) -> Claim | None:
        """The same of an attempt of an earlier process's, for which nothing was reserved here."""
        self.reserve(run, cost)
        return self.give_up(run, attempt, cost)

    def is_open(self, attempt: int) -> bool:
        """Whether it was given up, and nobody knows yet what it was charged."""
        return attempt in self._claims

    def charged(self, attempt: int, msat: int) -> bool:
        """One that was given up was charged this much and no more. False when that was known, or is no matter."""
        claim = self._claims.pop(attempt, None)
        if claim is None:
            return False
        claim.live = False
        claim.budget.open -= claim.cost
        claim.budget.spent += msat
        return True
