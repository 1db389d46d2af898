"""The open cases, and the commands that were decided on, which pile up until they are taken."""

from collections.abc import Iterable

from pylon.swarm.checks.case import Case
from pylon.swarm.checks.commands import Accept, Again, CheckCommand
from pylon.swarm.checks.unchecked import Delivered, Unchecked
from pylon.swarm.checks.witnesses import Witnesses
from pylon.swarm.job import Answer


class OpenCases:
    """See the module. `final` are the runs whose answers stay once they were delivered."""

    def __init__(self, witnesses: Witnesses, unchecked: Unchecked) -> None:
        self._witnesses = witnesses
        self._unchecked = unchecked
        self._cases: dict[int, Case] = {}
        self.final: set[int] = set()
        self.out: list[CheckCommand] = []

    def __len__(self) -> int:
        return len(self._cases)

    def get(self, slot: int) -> Case | None:
        """The case of a slot, while it is open."""
        return self._cases.get(slot)

    def open(self, case: Case) -> None:
        """Opens a case, so that its answer is held back; nothing happens if it is open."""
        if case.slot not in self._cases:
            self._cases[case.slot] = case
            self._witnesses.opened(case.provider)

    def close(self, case: Case) -> None:
        """Ends a case."""
        if self._cases.pop(case.slot, None) is not None:
            self._witnesses.closed(case.provider)

    def accept(self, case: Case, answer: Answer) -> None:
        """The answer fills the slot. It has passed the checks that the case names."""
        self.close(case)
        believable = () if answer is case.first and case.doubts else ("plausible",)
        self.out.append(Accept(case.slot, answer, (*believable, *case.how)))

    def again(self, case: Case) -> None:
        """The slot is asked again, of another provider."""
        self.close(case)
        self.out.append(Again((case.slot,), case.provider))

    def deliver(self, case: Case, answer: Answer) -> None:
        """The answer fills the slot unchecked."""
        self._unchecked.came(answer.provider)
        if case.run not in self.final:
            self._unchecked.add(Delivered(case.run, case.slot, case.asked, answer))
        self.accept(case, answer)

    def confirm(self, case: Case, answer: Answer, by: str) -> None:
        """The answer passed by the opinion of provider `by`; if that one is caught lying, it counts as unchecked
        again."""
        if case.run not in self.final:
            self._unchecked.confirmed(case.slot, answer.provider, by)
        self.accept(case, answer)

    def closed(self, slots: Iterable[int]) -> None:
        """Drops the cases of these slots: their run is over."""
        for slot in slots:
            if (case := self._cases.get(slot)) is not None:
                self.close(case)

    def take(self) -> list[CheckCommand]:
        """The commands decided on since the last call."""
        out, self.out = self.out, []
        return out
