"""What the asks of one run are charged beside their answers, while they are out and when they are over."""

from contextlib import suppress
from functools import partial

from pylon.rlm.budget import Budget
from pylon.rlm.charges import Tab
from pylon.rlm.trajectory import Trajectory, TrajectoryError
from pylon.rlm.unsettled import Unsettled


class LateCharges:
    """`unsettled` may be others' too, and then goes on when this run is over."""

    def __init__(self, unsettled: Unsettled, trajectory: Trajectory) -> None:
        self._unsettled = unsettled
        self._trajectory = trajectory
        self._over = False

    def note(self, loop: str, turn: int, msat: int) -> None:
        """Writes down what no answer accounts for; not any more when the run is over, whose record is whole."""
        if self._over:
            return
        # Whoever writes next in the loop is told too, and that ends the run.
        with suppress(TrajectoryError):
            self._trajectory.write("charged", loop=loop, turn=turn, msat=msat)

    def hand_over(self, tab: Tab, budget: Budget, *, answers: int, bound: int, loop: str, turn: int) -> None:
        """An ask is over, of which `answers` msat are for its answers, and which may cost `bound`. What it may be
        charged yet stays set aside. To be called before what was reserved for it is settled."""
        charged, most = answers + tab.beside, tab.most(answers, bound)
        if tab.reserved is not None and most > charged:
            note, known = partial(self.note, loop, turn), tab.open is not None
            self._unsettled.over(tab.reserved, budget, charged=charged, most=most, known=known, note=note)

    def close(self) -> None:
        """The run is over."""
        self._over = True
