"""Records what the asks of one run are charged besides the price of their answers, during the ask and after it."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

from pylon.rlm.budget import Budget
from pylon.rlm.charges import Reserved, Tab
from pylon.rlm.record import OpenAsk
from pylon.rlm.trajectory import Trajectory, TrajectoryError
from pylon.rlm.unsettled import Unsettled
from pylon.unsettled import Teller


class LateCharges:
    """The charges of one run. `unsettled` may be shared with other runs, and then outlives this one."""

    def __init__(self, unsettled: Unsettled, trajectory: Trajectory) -> None:
        self._unsettled = unsettled
        self._trajectory = trajectory
        self._over = False

    def reserved(self, tab: Tab, bound: int, loop: str, turn: int, calls: Sequence[str] = ()) -> None:
        """Writes the `reserved` event: an ask may cost up to `bound` msat from here on. A resume can ask for its cost
        by the name in that event."""
        self._write("reserved", loop, turn, msat=bound, calls=list(calls), **tab.named)

    def note(self, loop: str, turn: int, msat: int, ask: str | None = None) -> None:
        """Writes the `charged` event: a charge that is not the price of an answer."""
        self._write("charged", loop, turn, msat=msat, **({} if ask is None else {"ask": ask}))

    def hand_over(self, tab: Tab, budget: Budget, *, answers: int, bound: int, loop: str, turn: int) -> None:
        """Keeps what an ask may still be charged set aside until its cost is final. The ask has ended; `answers` msat
        of it were for its answers, and it may cost `bound` in all. To be called before what was reserved for it is
        settled."""
        charged, most = answers + tab.extra, tab.most(answers, bound)
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

    def resume(self, asks: Mapping[str, OpenAsk], by: Teller, budget: Budget) -> None:
        """As `hand_over`, for the open asks of an earlier process of this run, whose known charges are booked. `by`
        is asked for their cost."""
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
        # Nothing may follow the `final` event.
        if self._over:
            return
        # The next write by the loop raises this too, which ends the run.
        with suppress(TrajectoryError):
            self._trajectory.write(kind, loop=loop, turn=turn, **fields)

    def close(self) -> None:
        """Ends the recording: the run is over."""
        self._over = True
