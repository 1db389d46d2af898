"""What comparisons may cost in further jobs: a share of the jobs of all runs."""

# What must be decided (two answers that differ, one that is hardly believable) may take so many jobs more than is
# left. A large run keeps as much of its share for that; small ones are overdrawn.
MUST = 10.0
_SMALL, _LARGE = 500, 1_000


class Allowance:
    """Half of a run's share is there at once, the rest comes with its answers. `left` is in jobs."""

    def __init__(self, share: float) -> None:
        self._share = share
        self.left = 1.0
        # Of open runs: their jobs, what they will still add with their answers, and what of theirs is kept.
        self._jobs = 0
        self._expected = self._kept = 0.0

    def added(self, jobs: int) -> None:
        """A run of so many jobs began."""
        share = self._share * jobs
        self.left += share / 2
        self._expected += share / 2
        self._jobs += jobs
        self._kept = MUST * min(1.0, max(0.0, (self._jobs - _SMALL) / (_LARGE - _SMALL)))

    def answered(self) -> None:
        """A job of a run was answered. One that is asked again brings nothing twice."""
        brings = min(self._share / 2, self._expected)
        self.left += brings
        self._expected -= brings

    def ended(self) -> None:
        """No run is open."""
        self._jobs = 0
        self._expected = self._kept = 0.0

    def spend(self) -> None:
        """A comparison is asked for."""
        self.left -= 1.0

    def affords(self, *, must: bool, first: bool) -> bool:
        """Whether there is enough for one more: one that `must` be, the `first` of a provider, or any other.

        The first two need not wait for the answers that will pay for them.
        """
        if must or first:
            return self.left + self._expected >= 1.0 + self._kept - (MUST if must else 0.0)
        return self.left >= 1.0 + self._kept
