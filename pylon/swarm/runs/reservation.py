"""What is set aside for one thing that is asked, and what becomes of it: told also when whoever asked has gone."""

from pylon.swarm.dispatch.budget import RunBudget


class CallReservation:
    """Of one question, or of one run of many: `msat` is the most that it may cost. It is asked once.

    What it cost is known when it is `decided`. Until then it was charged `charged_msat`, and can come to `most_msat`:
    providers that were told to stop may have worked already.
    """

    def __init__(self, msat: int) -> None:
        self.msat = msat
        self._before = 0
        self._budget: RunBudget | None = None
        self._ended = False

    def begin(self, budget: RunBudget, *, before: int = 0) -> None:
        """From here on it may cost something. `before` is what an earlier process was charged for it, in msat."""
        self._budget, self._before = budget, before

    def end(self) -> None:
        """Nothing more is asked for it."""
        self._ended = True

    @property
    def charged_msat(self) -> int:
        """What was charged up to now."""
        return self._before + (0 if self._budget is None else self._budget.spent)

    @property
    def most_msat(self) -> int:
        """What it can come to: all that it may cost, as long as somebody may be asked for it."""
        if not self.over:
            return max(self.msat, self.charged_msat)
        return self._before + (0 if self._budget is None else self._budget.most)

    @property
    def over(self) -> bool:
        """Whether nobody is asked for it any more."""
        return self._ended and (self._budget is None or self._budget.over)

    @property
    def decided(self) -> bool:
        """Whether that is what it cost, and nothing will change it."""
        return self._ended and (self._budget is None or self._budget.decided)
