"""What the asks of one run are charged beside their answers, while they are out and when they are over."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

from pylon.rlm.budget import Budget
from pylon.rlm.charges import Reserved, Tab
from pylon.rlm.lives import OpenAsk
from pylon.rlm.trajectory import Trajectory, TrajectoryError
from pylon.rlm.unsettled import Unsettled
from pylon.unsettled import Teller


class LateCharges:
    """`unsettled` may be others' too, and then goes on when this run is over."""

    def __init__(self, unsettled: Unsettled, trajectory: Trajectory) -> None:
        self._unsettled = unsettled
        self._trajectory = trajectory
        self._over = False

    def reserved(self, tab: Tab, bound: int, loop: str, turn: int, calls: Sequence[str] = ()) -> None:
        """Writes down that an ask may cost so much from here on: whoever takes the run up can ask after it."""
        self._write("reserved", loop, turn, msat=bound, calls=list(calls), **tab.named)

    def note(self, loop: str, turn: int, msat: int, ask: str | None = None) -> None:
        """Writes down what no answer accounts for."""
        self._write("charged", loop, turn, msat=msat, **({} if ask is None else {"ask": ask}))

    def hand_over(self, tab: Tab, budget: Budget, *, answers: int, bound: int, loop: str, turn: int) -> None:
        """An ask is over, of which `answers` msat are for its answers, and which may cost `bound`. What it may be
        charged yet stays set aside. To be called before what was reserved for it is settled."""
        charged, most = answers + tab.beside, tab.most(answers, bound)
        if tab.reserved is None:
            return
        settled = partial(self._write, "settled", loop, turn, ask=tab.reserved.name)
        if most <= charged:
            settled()
            return
        note, known = partial(self.note, loop, turn, ask=tab.reserved.name), tab.open is not None
        self._unsettled.over(
            tab.reserved, budget, charged=charged, most=most, known=known, note=note, settled=settled
        )  # fmt: skip

    def take_up(self, asks: Mapping[str, OpenAsk], by: Teller, budget: Budget) -> None:
        """The same for asks of an earlier process, whose charges are booked as far as they are known: `by` is asked
        after them."""
        for name, ask in asks.items():
            if ask.most <= ask.charged:
                continue
            note = partial(self.note, ask.loop, ask.turn, ask=name)
            settled = partial(self._write, "settled", ask.loop, ask.turn, ask=name)
            self._unsettled.over(
                Reserved(name, by), budget, charged=ask.charged, most=ask.most, known=False, note=note,
                settled=settled,
            )  # fmt: skip

    def _write(self, kind: str, loop: str, turn: int, **fields: object) -> None:
        # When the run is over its record is whole.
        if self._over:
            return
        # Whoever writes next in the loop is told too, and that ends the run.
        with suppress(TrajectoryError):
            self._trajectory.write(kind, loop=loop, turn=turn, **fields)

    def close(self) -> None:
        """The run is over."""
        self._over = True
