"""The allowance for comparisons: how many further jobs they may cost, as a share of the jobs of all runs."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto

# What must be decided (two answers that differ, one that is hardly believable) may overdraw the allowance by so many
# jobs. A large run keeps as much of its share in reserve for that instead; small ones are overdrawn.
MUST = 10.0
_SMALL, _LARGE = 500, 1_000
# Towards its end a run keeps less in reserve: a provider not caught by then will hardly need so many.
_MUST_LAST = 3.0
_LAST = 0.25
# The part of the share that may be spent on strangers and on suspects before answers have come.
_EARLY = 0.5
# No more than this is carried from one run to the next, so that single questions save up for a check.
_CARRIED = 1.0


class Purpose(Enum):
    """What a comparison is for."""

    MUST = auto()  # something has to be decided
    SUSPECT = auto()  # one of a provider that lost a comparison
    FIRST = auto()  # the first one of a provider
    NEW = auto()  # one of a provider that has not proven itself
    SAMPLE = auto()  # any other


@dataclass(slots=True)
class _Run:
    jobs: int
    unanswered: int


class Allowance:
    """See the module. Samples are spread evenly over a run's answers, as far as more urgent purposes leave something.

    `left` is how many jobs may still be spent until the open runs are over.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self.left = _CARRIED
        # How much of that samples have been granted so far.
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
        """A run that has just begun was taken up: an earlier process had so many answers, and paid for
        comparisons."""
        found = self._runs[run]
        found.unanswered -= answered
        self._unanswered -= answered
        self.left -= spent

    def answered(self, run: int) -> None:
        """A job of a run was answered, which grants its part to samples. A job that is asked again counts once."""
        found = self._runs.get(run)
        if found is None or not found.unanswered:
            return
        free = self.left - self._kept
        self._granted = min(free, self._granted + max(0.0, free - self._granted) / self._unanswered)
        found.unanswered -= 1
        self._unanswered -= 1

    def ahead(self, jobs: int, waiting: int, runs: Collection[int]) -> None:
        """`jobs` answers of these runs are drawn for samples before they come, while `waiting` jobs are still to be
        sent.

        What these answers would grant is granted now, from all but the reserve for the run's end.
        """
        others = self._unanswered - sum(self._runs[run].unanswered for run in runs if run in self._runs)
        free = self.left - self._large * _MUST_LAST
        self._granted += max(0.0, free - self._granted) * jobs / (jobs + waiting + others)

    def ended(self, run: int) -> None:
        """A run is over. The share of its unanswered jobs is taken back."""
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
        """The part of the share that is freed only as answers come."""
        return (1.0 - _EARLY) * self._share * self._unanswered

    @property
    def _is_granted(self) -> bool:
        return min(self._granted, self.left - self._kept) >= 1.0

    @property
    def _large(self) -> float:
        """0 to 1, by the size of the open runs: how much is kept in reserve rather than overdrawn. See `MUST`."""
        return min(1.0, max(0.0, (self._jobs - _SMALL) / (_LARGE - _SMALL)))

    @property
    def _kept(self) -> float:
        if not self._jobs:
            return 0.0
        early = min(1.0, self._unanswered / (_LAST * self._jobs))
        return self._large * (_MUST_LAST + (MUST - _MUST_LAST) * early)
