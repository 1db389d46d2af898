"""Asks that have ended but whose cost is not final: keeps it set aside in the budgets of runs until it is known.

Runs that share a budget share this too.
"""

from collections.abc import Callable

from pylon import unsettled
from pylon.rlm.budget import NOTHING, Budget, Cost
from pylon.rlm.charges import Reserved
from pylon.rlm.gate import Gate


class Unsettled(unsettled.Unsettled):
    """The unsettled asks of one budget, and of the budgets below it."""

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
        """Adds an ask that has ended: `charged` msat of it are booked, and it can come to `most`. With `known` the
        node has confirmed `most`; otherwise other calls wait for what the ask may leave until the node answers.
        `note` hears each charge that is booked later, `settled` that the cost is final.

        To be called before what was reserved for the ask is settled, so that no other call gets it in between.
        """
        share = _Share(self._gate, budget, charged, most, known, note, settled)
        self.add(ask.name, ask.by, share, charged=charged, most=most, known=known)


class _Share:
    """What is set aside for one ask: a reservation, which other calls wait for unless its size is `known`."""

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
        # The rest stays set aside for good; it was not charged, so it is not noted.
        self.hold(charged, most)
