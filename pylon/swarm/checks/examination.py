"""How an answer is examined: our own model scores it if it has the same weights, else another provider is asked."""

from pylon.swarm.checks.case import Case
from pylon.swarm.checks.commands import Ask, Reopen, Rescore
from pylon.swarm.checks.open_cases import OpenCases
from pylon.swarm.checks.selection import Selection
from pylon.swarm.checks.unchecked import Unchecked
from pylon.swarm.checks.verification import doubts_of


class Examination:
    """See the module. `holds` are the weights hashes of the models that can be asked on this machine."""

    def __init__(self, cases: OpenCases, selection: Selection, unchecked: Unchecked) -> None:
        self._cases = cases
        self._selection = selection
        self._unchecked = unchecked
        self.holds: frozenset[str] = frozenset()
        # Further jobs that comparisons took.
        self.asked = 0

    def begin(self, case: Case) -> bool:
        """Begins to examine an answer; False if neither our own model nor another provider can be asked."""
        if case.first.sha256 not in self.holds:
            return self.second(case)
        self._cases.open(case)
        self._cases.out.append(Rescore(case.slot, case.first))
        return True

    def second(self, case: Case) -> bool:
        """Has one more provider asked; False if there is none, or the allowance is used up."""
        to = self._selection.second(case)
        if to:
            self._cases.open(case)
            self.ask(case, to)
        return bool(to)

    def ask(self, case: Case, to: tuple[str, ...]) -> None:
        """Has one of these providers asked."""
        case.waiting += 1
        self.asked += 1
        self._cases.out.append(Ask(case.slot, to, case.patience_s))

    def look_back(self, provider: str) -> None:
        """Examines the latest delivered answers of a provider that has just lost a comparison."""
        while self._selection.has_more_to_look_at(provider):
            found = self._unchecked.take_latest(provider)
            if found is None:
                return
            case = Case(found.slot, found.asked, doubts_of(found.asked, found.answer), found.answer, found.run)
            place = len(self._cases.out)
            if not self.begin(case):
                self._unchecked.add(found)
                return
            self._cases.out.insert(place, Reopen(case.slot))
