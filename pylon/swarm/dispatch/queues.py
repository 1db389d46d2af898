"""Jobs that wait behind those of other customers go to somebody idle instead, or to whoever is done far sooner.

What a provider has to do is told to everybody twice a minute. Customers that begin at once see the same swarm, turn
to the same quick machines, and would wait there while others stand idle. But of one's own job a provider says at once
how long it waits. Nor does a customer stand in a line for newcomers where others would have answered meanwhile.
"""

import heapq
import random

from pylon.swarm.dispatch.in_flight import InFlight
from pylon.swarm.dispatch.roster import Roster
from pylon.swarm.dispatch.seats import Seat
from pylon.swarm.dispatch.slot import Attempt
from pylon.swarm.dispatch.standing import Standing

# So often a job goes elsewhere, each time to somebody new; and so often to one that only looks idle: others who wait
# see the same ones.
MOST_MOVES, MOST_GUESSES = 3, 1
# Only when it would be over so many seconds sooner, and in so small a part of the time: what a provider says is a
# guess, and a cancelled job costs two events.
_SOONER_S, _PART = 2.0, 0.5
# Of who is busy it is known only from heartbeats for how long: what goes there must be over in so small a part.
_BUSY_PART = 0.25
# So many of those that wait longest are looked at for one that may go to a certain provider.
_LOOKED_AT = 8
# So many more than are on their way may be remembered of those that are over.
_OVER = 100


class Queues:
    """See the module."""

    def __init__(self, roster: Roster, in_flight: InFlight, rng: random.Random) -> None:
        self._roster = roster
        self._in_flight = in_flight
        self._rng = rng

    def told(self, attempt: Attempt, wait_s: float, now: float) -> None:
        """A provider has a job, and begins with it in so many seconds. Of what it says of that the first counts:
        relays hold it, and tell it again whenever they are asked."""
        if not attempt.live or attempt.told:
            return
        attempt.told = True
        standing, slot = attempt.standing, attempt.slot
        lane = slot.lane
        seconds = lane.seconds_at(standing)
        lane.figures.waits.add(standing.told(attempt.id, wait_s, seconds, now))
        self._roster.place(standing, now)
        if not wait_s or slot.job.to:
            return
        if slot.moves < MOST_GUESSES and self._may_go(attempt, now):
            found = self._somebody_sooner(attempt, wait_s + seconds, now)
            if found is not None:
                self._move(attempt, found, now)
                return
        heapq.heappush(lane.told, (-(now + wait_s), attempt.id, attempt))
        if len(lane.told) > 2 * lane.figures.in_flight + _OVER:
            lane.told = [each for each in lane.told if each[2].live]
            heapq.heapify(lane.told)

    def answered(self, attempt: Attempt, now: float) -> None:
        """An answer came. What waits longest elsewhere may be done sooner where it came from."""
        standing, lane = attempt.standing, attempt.slot.lane
        if not attempt.acknowledged:
            # Who had no word before it did not wait.
            lane.figures.waits.add(0.0)
        seat = lane.members.get(standing.provider)
        if not lane.told or seat is None or seat.step < 0 or standing.others_until > now or self._roster.coming:
            return
        # Jobs that nobody has come first, those of other needs too.
        if any(each.lane.presses for each in standing.seats):
            return
        there_s = lane.seconds_at(standing)
        stay = []
        for _ in range(min(_LOOKED_AT, len(lane.told))):
            told = heapq.heappop(lane.told)
            before, _, waiting = told
            here_s = -before - now + lane.seconds_at(waiting.standing)
            if not self._may_go(waiting, now):
                continue
            if there_s <= _worth_s(waiting, here_s, now) and self._may_take(standing, waiting):
                self._move(waiting, standing, now)
                break
            stay.append(told)
        for told in stay:
            heapq.heappush(lane.told, told)

    def _may_go(self, attempt: Attempt, now: float) -> bool:
        slot = attempt.slot
        if not attempt.live or slot.moves >= MOST_MOVES or len(slot.live) > 1 or slot.ends_at <= now:
            return False
        left = self._in_flight.budgets.left(slot.job.run) if attempt.cost else None
        if left is None:
            return True
        # What is given up counts as spent, and the money is for jobs that nobody has yet.
        return left >= 2 * attempt.cost and not self._roster.waits

    def _may_take(self, standing: Standing, attempt: Attempt, *, busy: bool = False) -> bool:
        # What runs on a machine of one's own costs nothing and is read by nobody.
        if (attempt.standing.is_own and not standing.is_own) or standing.provider in attempt.slot.known:
            return False
        may = self._in_flight.may_unpaid if busy else self._in_flight.may_at_once
        return may(attempt.slot, standing)

    def _somebody_sooner(self, attempt: Attempt, here_s: float, now: float) -> Standing | None:
        """Who would be done so much sooner than where it would take so long that it is worth the move."""
        worth_s = _worth_s(attempt, here_s, now)
        if worth_s <= 0:
            return None
        slot = attempt.slot

        def idle(seat: Seat) -> bool:
            return self._may_take(seat.standing, attempt)

        def busy(seat: Seat) -> bool:
            return self._may_take(seat.standing, attempt, busy=True)

        found = slot.lane.choose(self._rng, slot.known, within_s=worth_s, accept=idle)
        if found is None:
            worth_s = min(worth_s, here_s * _BUSY_PART)
            found = slot.lane.choose(self._rng, slot.known, within_s=worth_s, accept=busy)
        return None if found is None else found.standing

    def _move(self, attempt: Attempt, standing: Standing, now: float) -> None:
        slot = attempt.slot
        slot.moves += 1
        self._in_flight.release(attempt, now)
        self._in_flight.cancel(attempt)
        self._in_flight.send(slot, standing, now, hedge=False)


def _worth_s(attempt: Attempt, here_s: float, now: float) -> float:
    """How long it may take elsewhere to be worth the move, and in time."""
    return min(here_s * _PART, here_s - _SOONER_S, attempt.slot.ends_at - now)
