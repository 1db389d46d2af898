"""Jobs that wait behind those of other customers go to somebody idle instead.

What a provider has to do is told to everybody twice a minute. Customers that begin at once see the same swarm, turn
to the same quick machines, and would wait there while others stand idle. But of one's own job a provider says at once
how long it waits.
"""

import heapq
import random

from pylon.swarm.company import Company
from pylon.swarm.in_flight import InFlight
from pylon.swarm.lane import Attempt, Lane, Seat, Slot
from pylon.swarm.standing import Standing

# So often a job goes elsewhere, each time to somebody new; and so often to one that only looks idle: others who wait
# see the same ones.
MOST_MOVES, MOST_GUESSES = 3, 1
# Only when it would be over so many seconds sooner, and in so small a part of the time: what a provider says is a
# guess, and a cancelled job costs two events.
_SOONER_S, _PART = 2.0, 0.5
# So many more than are on their way may be remembered of those that are over.
_OVER = 100


class Queues:
    """See the module."""

    def __init__(self, company: Company, in_flight: InFlight, rng: random.Random) -> None:
        self._company = company
        self._in_flight = in_flight
        self._rng = rng

    def told(self, attempt: Attempt, wait_s: float, now: float) -> None:
        """A provider has a job, and begins with it in so many seconds."""
        if not attempt.live:
            return
        standing, slot = attempt.standing, attempt.slot
        lane = slot.lane
        seconds = lane.seconds_at(standing)
        lane.waits.add(standing.told(wait_s, seconds, now))
        self._company.place(standing, now)
        if not wait_s or slot.job.to:
            return
        if slot.moves < MOST_GUESSES and self._may_go(attempt):
            found = self._somebody_idle(slot, _worth_s(wait_s + seconds))
            if found is not None:
                self._move(attempt, found, now)
                return
        heapq.heappush(lane.told, (-(now + wait_s), attempt.id, attempt))
        if len(lane.told) > 2 * lane.in_flight + _OVER:
            lane.told = [each for each in lane.told if each[2].live]
            heapq.heapify(lane.told)

    def answered(self, attempt: Attempt, now: float) -> None:
        """An answer came. What waits longest elsewhere may be done sooner where it came from."""
        standing, lane = attempt.standing, attempt.slot.lane
        if not attempt.acknowledged:
            # Who had no word before it did not wait.
            lane.waits.add(0.0)
        if not lane.told or lane.presses or self._company.coming or standing.others_until > now:
            return
        begins_at, waiting = self._longest(lane)
        if waiting is None:
            return
        here_s = begins_at - now + lane.seconds_at(waiting.standing)
        if lane.seconds_at(standing) > _worth_s(here_s):
            return
        if standing.provider not in _known(waiting.slot) and self._in_flight.may_at_once(waiting.slot, standing):
            heapq.heappop(lane.told)
            self._move(waiting, standing, now)

    def _longest(self, lane: Lane) -> tuple[float, Attempt | None]:
        """What waits longest, and until when, of what may still go elsewhere."""
        while lane.told:
            before, _, attempt = lane.told[0]
            if self._may_go(attempt):
                return -before, attempt
            heapq.heappop(lane.told)
        return 0.0, None

    def _may_go(self, attempt: Attempt) -> bool:
        slot = attempt.slot
        if not attempt.live or slot.moves >= MOST_MOVES or len(slot.live) > 1:
            return False
        # What is given up counts as spent, and the last money is for jobs that nobody has yet.
        left = self._in_flight.budgets.left(slot.job.run)
        return left is None or left >= 2 * attempt.cost

    def _somebody_idle(self, slot: Slot, within_s: float) -> Standing | None:
        def may(seat: Seat) -> bool:
            return self._in_flight.may_at_once(slot, seat.standing)

        if within_s <= 0:
            return None
        found = slot.lane.choose(self._rng, _known(slot), within_s=within_s, accept=may)
        return None if found is None else found.standing

    def _move(self, attempt: Attempt, standing: Standing, now: float) -> None:
        slot = attempt.slot
        slot.moves += 1
        self._in_flight.release(attempt, now)
        self._in_flight.cancel(attempt)
        self._in_flight.send(slot, standing, now, hedge=False)


def _worth_s(here_s: float) -> float:
    """How long it may take elsewhere to be worth the move."""
    return min(here_s * _PART, here_s - _SOONER_S)


def _known(slot: Slot) -> frozenset[str]:
    return slot.tried | slot.barred | {attempt.standing.provider for attempt in slot.attempts}
