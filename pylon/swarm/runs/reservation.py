"""The reservation of one call: what is set aside for it, and what it came to, even after its caller has left."""

from pylon.swarm.dispatch.budget import RunBudget


class CallReservation:
    """For one question, or one run of many; used once. `msat` is the most that it may cost.

    Its cost is final when it is `decided`. Until then `charged_msat` was charged, and it can come to `most_msat`:
    providers that were told to stop may have worked already.
    """

    def __init__(self, msat: int) -> None:
        self.msat = msat
        self._before = 0
        self._budget: RunBudget | None = None
        self._ended = False

    def begin(self, budget: RunBudget, *, before: int = 0) -> None:
        """The call begins. `before` is what an earlier process was charged for it, in msat."""
        self._budget, self._before = budget, before

    def end(self) -> None:
        """The call is over."""
        self._ended = True

    @property
    def charged_msat(self) -> int:
        """What was charged up to now, in msat."""
        return self._before + (0 if self._budget is None else self._budget.spent)

    @property
    def most_msat(self) -> int:
        """The most that it can come to, in msat: the whole reservation until it is `over`."""
        if not self.over:
            return max(self.msat, self.charged_msat)
        return self._before + (0 if self._budget is None else self._budget.most)

    @property
    def over(self) -> bool:
        """Whether no more requests go out for it."""
        return self._ended and (self._budget is None or self._budget.over)

    @property
    def decided(self) -> bool:
        """Whether `charged_msat` is final."""
        return self._ended and (self._budget is None or self._budget.decided)
