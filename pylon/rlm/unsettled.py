"""Asks that are over and of which nobody knows yet what they cost, in the budgets of runs: all that share a queue
share this."""

from collections.abc import Callable

from pylon import unsettled
from pylon.rlm.budget import NOTHING, Budget, Cost
from pylon.rlm.charges import Reserved
from pylon.rlm.gate import Gate


class Unsettled(unsettled.Unsettled):
    """See the module."""

    def __init__(self, gate: Gate) -> None:
        super().__init__("rlm")
        self._gate = gate

    def over(
        self,
        ask: Reserved,
        budget: Budget,
        *,
        charged: int,
        most: int,
        known: bool,
        note: Callable[[int], None],
        settled: Callable[[], None] = lambda: None,
    ) -> None:
        """An ask is over: `charged` msat of it are booked, and it can come to `most`. With `known` that was said;
        otherwise others wait until something is. `note` hears what is booked later, `settled` that this was all.

        To be called before what was reserved for it is settled: so nothing of it is anybody else's in between.
        """
        share = _Share(self._gate, budget, charged, most, known, note, settled)
        self.add(ask.name, ask.by, share, charged=charged, most=most, known=known)


class _Share:
    """Of one ask: what it may still cost is a reservation, which others wait for unless it is `known`."""

    def __init__(
        self,
        gate: Gate,
        budget: Budget,
        charged: int,
        most: int,
        known: bool,
        note: Callable[[int], None],
        settled: Callable[[], None],
    ) -> None:
        self._gate = gate
        self._budget = budget
        self._charged = charged
        self._note = note
        self._settled = settled
        self._rest = budget.set_aside(Cost(most - charged), keep=known)

    def hold(self, charged: int, most: int) -> None:
        booked, self._charged = charged - self._charged, charged
        before, self._rest = self._rest, self._budget.set_aside(Cost(most - charged), keep=True)
        self._gate.settle(self._budget, before, Cost(booked))
        if booked:
            self._note(booked)

    def end(self, charged: int) -> None:
        self.hold(charged, charged)
        self._gate.settle(self._budget, self._rest, NOTHING)
        self._settled()

    def lose(self, charged: int, most: int) -> None:
        # What stays set aside for good was not charged, and is not noted as such.
        self.hold(charged, most)
