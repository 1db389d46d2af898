"""How an answer is examined: our own model reads it where it holds the same weights, or somebody else is asked."""

from pylon.swarm.checks.case import Case
from pylon.swarm.checks.commands import Ask, Reopen, Rescore
from pylon.swarm.checks.docket import Docket
from pylon.swarm.checks.selection import Selection
from pylon.swarm.checks.unchecked import Unchecked
from pylon.swarm.checks.verification import doubts_of


class Examination:
    """`holds` are the weights hashes of models that can be asked here."""

    def __init__(self, docket: Docket, selection: Selection, unchecked: Unchecked) -> None:
        self._docket = docket
        self._selection = selection
        self._unchecked = unchecked
        self.holds: frozenset[str] = frozenset()
        # Further jobs that comparisons took.
        self.asked = 0

    def begin(self, case: Case) -> bool:
        """Has the answer read by our own model, or somebody else asked; whether that could be."""
        if case.first.sha256 not in self.holds:
            return self.second(case)
        self._docket.open(case)
        self._docket.out.append(Rescore(case.slot, case.first))
        return True

    def second(self, case: Case) -> bool:
        """Has one more provider asked, when there is one and the allowance is not used up."""
        to = self._selection.second(case)
        if to:
            self._docket.open(case)
            self.ask(case, to)
        return bool(to)

    def ask(self, case: Case, to: tuple[str, ...]) -> None:
        """Has one of these providers asked."""
        case.waiting += 1
        self.asked += 1
        self._docket.out.append(Ask(case.slot, to, case.patience_s))

    def look_back(self, provider: str) -> None:
        """Examines the latest answers of somebody who lost a comparison, and was believed before."""
        while self._selection.has_more_to_look_at(provider):
            found = self._unchecked.take_latest(provider)
            if found is None:
                return
            case = Case(found.slot, found.asked, doubts_of(found.asked, found.answer), found.answer, found.run)
            place = len(self._docket.out)
            if not self.begin(case):
                self._unchecked.add(found)
                return
            self._docket.out.insert(place, Reopen(case.slot))
