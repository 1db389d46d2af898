"""What comparisons may cost in further jobs: a share of the jobs of all runs."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto

# What must be decided (two answers that differ, one that is hardly believable) may take so many jobs more than is
# left. A large run keeps as much of its share for that; small ones are overdrawn.
MUST = 10.0
_SMALL, _LARGE = 500, 1_000
# Towards its end a run keeps less: who was not caught by then will hardly need so many.
_MUST_LAST = 3.0
_LAST = 0.25
# Of the share, what may be spent on strangers and on suspects before answers have come.
_EARLY = 0.5
# No more than that is carried from one run into another: single questions save up for a check.
_CARRIED = 1.0


class Purpose(Enum):
    """What a comparison is for."""

    MUST = auto()  # something is to be decided
    SUSPECT = auto()  # one of a provider that lost a comparison
    FIRST = auto()  # the first one of a provider
    NEW = auto()  # one of a provider that has not proven itself
    SAMPLE = auto()  # any other


@dataclass(slots=True)
class _Run:
    jobs: int
    unanswered: int


class Allowance:
    """Samples are spread evenly over a run's answers, as far as what comes before them leaves something.

    `left` is what may still be spent, in jobs, until the open runs are over.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self.left = _CARRIED
        # Of that, what samples have been granted so far.
        self._granted = 0.0
        self._runs: dict[int, _Run] = {}
        self._jobs = self._unanswered = 0

    def added(self, run: int, jobs: int) -> None:
        """A run of so many jobs began."""
        self._runs[run] = _Run(jobs, jobs)
        self._jobs += jobs
        self._unanswered += jobs
        self.left += self._share * jobs

    def taken_up(self, run: int, answered: int, spent: int) -> None:
        """Of a run that began just now an earlier process had so many answers, and paid so many comparisons."""
        found = self._runs[run]
        found.unanswered -= answered
        self._unanswered -= answered
        self.left -= spent

    def answered(self, run: int) -> None:
        """A job of a run was answered. One that is asked again brings nothing twice."""
        found = self._runs.get(run)
        if found is None or not found.unanswered:
            return
        free = self.left - self._kept
        self._granted = min(free, self._granted + max(0.0, free - self._granted) / self._unanswered)
        found.unanswered -= 1
        self._unanswered -= 1

    def ahead(self, jobs: int, waiting: int, runs: Collection[int]) -> None:
        """So many answers of these runs are drawn from before they come, and so many of their jobs still wait.

        What they will bring is granted now, and what is kept but for the run's end.
        """
        others = self._unanswered - sum(self._runs[run].unanswered for run in runs if run in self._runs)
        free = self.left - self._large * _MUST_LAST
        self._granted += max(0.0, free - self._granted) * jobs / (jobs + waiting + others)

    def ended(self, run: int) -> None:
        """A run is over; what its unanswered jobs would have brought is gone with them."""
        found = self._runs.pop(run, None)
        if found is None:
            return
        self._jobs -= found.jobs
        self._unanswered -= found.unanswered
        self.left -= self._share * found.unanswered
        if not self._runs:
            self.left = min(self.left, _CARRIED)

    def spend(self, purpose: Purpose) -> None:
        """A comparison is asked for."""
        if purpose is Purpose.SAMPLE or (purpose is Purpose.NEW and not self._early):
            self._granted -= 1.0
        self.left -= 1.0

    def affords(self, purpose: Purpose) -> bool:
        """Whether there is enough for one more."""
        match purpose:
            case Purpose.MUST:
                return self.left >= 1.0 - MUST * (1.0 - self._large)
            case Purpose.SUSPECT:
                # Two that accuse an honest one together must not use up what would find them.
                return self.left >= 1.0 - MUST * (1.0 - self._large) + self._large * self._later
            case Purpose.FIRST:
                return self.left >= 1.0 + self._kept
            case Purpose.NEW:
                return self._early or self._is_granted
            case Purpose.SAMPLE:
                return self._is_granted

    @property
    def _early(self) -> bool:
        return self.left >= 1.0 + self._kept + self._later

    @property
    def _later(self) -> float:
        """What comes with answers only."""
        return (1.0 - _EARLY) * self._share * self._unanswered

    @property
    def _is_granted(self) -> bool:
        return min(self._granted, self.left - self._kept) >= 1.0

    @property
    def _large(self) -> float:
        """0 to 1: how much of what must be decided is kept, and not overdrawn."""
        return min(1.0, max(0.0, (self._jobs - _SMALL) / (_LARGE - _SMALL)))

    @property
    def _kept(self) -> float:
        if not self._jobs:
            return 0.0
        early = min(1.0, self._unanswered / (_LAST * self._jobs))
        return self._large * (_MUST_LAST + (MUST - _MUST_LAST) * early)
