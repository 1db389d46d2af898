"""Budgets of runs: cost is reserved before a request goes out, settled by its receipt, and never exceeds the limit.

An attempt that is given up keeps its whole reservation (a `Claim`): its provider may have worked already, and its
receipt may still come. The claim ends with that receipt, even after the run is over; with the provider's word that it
does not do the job; or when receipts are not accepted any more. Until then the sum errs on the high side. Amounts are
msat, as plain `int`.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class RunBudget:
    """One run's limit and what counts against it: `reserved` for attempts that are waited for, `open` for attempts
    that were given up and may still be charged, `spent` by receipts. `over`: nothing more is sent for the run.

    The caller may hold it for longer than the run lasts.
    """

    limit: int
    reserved: int = 0
    open: int = 0
    spent: int = 0
    over: bool = False

    @property
    def most(self) -> int:
        """The most that the run can come to cost by what has been sent up to now."""
        return self.spent + self.reserved + self.open

    @property
    def left(self) -> int:
        """What may still be reserved."""
        return self.limit - self.most

    @property
    def decided(self) -> bool:
        """Whether these figures are final."""
        return self.over and not self.open


@dataclass(slots=True, eq=False)
class Claim:
    """What an attempt that was given up may still be charged; `live` until its charge is known."""

    attempt: int
    budget: RunBudget
    cost: int
    live: bool = True


class Budgets:
    """The budgets of open runs, by the run's number. A run without a limit has none, and can pay anything."""

    def __init__(self) -> None:
        self.by_run: dict[int, RunBudget] = {}
        """The budgets of runs with a limit. When there are none, nothing needs to be counted."""
        # Claims by attempt; their runs may be over.
        self._claims: dict[int, Claim] = {}

    def fund(self, run: int, msat: int | None) -> None:
        """Sets a run's limit, in place of the earlier one; None takes it away."""
        budget = self.by_run.get(run)
        if msat is None:
            self.by_run.pop(run, None)
        elif budget is None:
            self.by_run[run] = RunBudget(msat)
        else:
            budget.limit = msat

    def end(self, run: int) -> None:
        """The run is over: nothing more is sent. Its budget goes on counting what is still charged."""
        if (budget := self.by_run.pop(run, None)) is not None:
            budget.over = True

    def left(self, run: int) -> int | None:
        """What a run may still reserve; None without a limit."""
        budget = self.by_run.get(run)
        return None if budget is None else budget.left

    def reserved(self, run: int) -> int:
        """What the attempts of a run that are waited for may cost."""
        budget = self.by_run.get(run)
        return 0 if budget is None else budget.reserved

    def reserve(self, run: int, cost: int) -> None:
        """Reserves what an attempt may cost; the caller has checked `left`."""
        if (budget := self.by_run.get(run)) is not None:
            budget.reserved += cost

    def settle(self, run: int, cost: int, charged: int) -> None:
        """Replaces an attempt's reservation by its charge, which counts in full even where it is larger."""
        if (budget := self.by_run.get(run)) is not None:
            budget.reserved -= cost
            budget.spent += charged

    def give_up(self, run: int, attempt: int, cost: int) -> Claim | None:
        """Turns the reservation of an attempt that is given up into a claim; None if it costs nothing, or its run has
        no limit."""
        budget = self.by_run.get(run)
        if budget is None or not cost:
            return None
        budget.reserved -= cost
        budget.open += cost
        claim = self._claims[attempt] = Claim(attempt, budget, cost)
        return claim

    def owe(self, run: int, attempt: int, cost: int) -> Claim | None:
        """A claim for a request that an earlier process sent, for which nothing was reserved here."""
        self.reserve(run, cost)
        return self.give_up(run, attempt, cost)

    def is_open(self, attempt: int) -> bool:
        """Whether this attempt has a claim: it was given up, and its charge is not known yet."""
        return attempt in self._claims

    def charged(self, attempt: int, msat: int) -> bool:
        """Ends an attempt's claim with the final charge; False if it has no claim."""
        claim = self._claims.pop(attempt, None)
        if claim is None:
            return False
        claim.live = False
        claim.budget.open -= claim.cost
        claim.budget.spent += msat
        return True
