"""Moves jobs that wait in a provider's queue to a provider that is idle, or that would be done far sooner.

Providers announce their load twice a minute only. So customers that begin at the same time see the same swarm, pick
the same quick machines, and would wait there while others stand idle. But a provider says at once how long a job that
it was sent will wait, and the job is moved on that word. It is moved too where the provider itself takes long.
"""

import heapq
import random

from pylon.swarm.dispatch.constraints import May
from pylon.swarm.dispatch.in_flight import InFlight
from pylon.swarm.dispatch.roster import Roster
from pylon.swarm.dispatch.seats import Seat
from pylon.swarm.dispatch.slot import Attempt
from pylon.swarm.dispatch.standing import Standing

# How often a job is moved at most, each time to a provider that has not had it; and how often to one that only looks
# idle, since other customers that wait see the same idle providers.
MOST_MOVES, MOST_GUESSES = 3, 1
# A job is moved only if it would be done at least so many seconds sooner, and within this part of the time: what a
# provider says is a guess, and a cancelled job costs two events.
_SOONER_S, _PART = 2.0, 0.5
# How long a busy provider will be is known only from heartbeats, so a job moved there must be done in this part.
_BUSY_PART = 0.25
# How many of the longest waits are looked at for one that may be moved to a provider that became free.
_LOOKED_AT = 8
# How many attempts that are over may be kept in the list of waits before it is cleaned.
_OVER = 100


class Rebalancing:
    """See the module."""

    def __init__(self, roster: Roster, in_flight: InFlight, rng: random.Random) -> None:
        self._roster = roster
        self._in_flight = in_flight
        self._rng = rng

    def told(self, attempt: Attempt, wait_s: float, now: float) -> None:
        """A provider says that it has the job and will begin with it in `wait_s` seconds.

        Only the first such word counts: relays store it, and deliver it again whenever they are asked.
        """
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
            found = self._sooner_elsewhere(attempt, wait_s + seconds, now)
            if found is not None:
                self._move(attempt, found, now)
                return
        heapq.heappush(lane.told, (-(now + wait_s), attempt.id, attempt))
        if len(lane.told) > 2 * lane.figures.in_flight + _OVER:
            lane.told = [each for each in lane.told if each[2].live]
            heapq.heapify(lane.told)

    def slow(self, attempt: Attempt, now: float) -> None:
        """A provider needs long for a job by its own figures: the job may be done far sooner elsewhere.

        By now that is worth a wait for a payment.
        """
        slot = attempt.slot
        if slot.job.to or not self._may_go(attempt, now):
            return

        def may(seat: Seat) -> bool:
            standing = seat.standing
            return not standing.silences and self._may_take(standing, attempt, self._in_flight.may)

        worth_s = _worth_s(attempt, attempt.expected_at - now, now)
        found = slot.lane.choose(self._rng, slot.known, within_s=worth_s, accept=may) if worth_s > 0 else None
        if found is not None:
            self._move(attempt, found.standing, now)

    def answered(self, attempt: Attempt, now: float) -> None:
        """An answer came: a job that waits elsewhere may be done sooner by the provider that just answered."""
        standing, lane = attempt.standing, attempt.slot.lane
        if not attempt.acknowledged:
            # A provider that answers without a word before it had no queue.
            lane.figures.waits.add(0.0)
        seat = lane.members.get(standing.provider)
        if not lane.told or seat is None or seat.step < 0 or standing.others_until > now or self._roster.coming:
            return
        # Jobs that no provider has yet come first, those of other needs too.
        if any(each.lane.presses for each in standing.seats):
            return
        there_s, at_once = lane.seconds_at(standing), self._in_flight.may_at_once
        stay = []
        for _ in range(min(_LOOKED_AT, len(lane.told))):
            told = heapq.heappop(lane.told)
            before, _, waiting = told
            here_s = -before - now + lane.seconds_at(waiting.standing)
            if not self._may_go(waiting, now):
                continue
            if there_s <= _worth_s(waiting, here_s, now) and self._may_take(standing, waiting, at_once):
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
        # The attempt given up counts as spent, and money is for jobs that no provider has yet.
        return left >= 2 * attempt.cost and not self._roster.waits

    def _may_take(self, standing: Standing, attempt: Attempt, may: May) -> bool:
        # On a machine of one's own a job costs nothing and stays private: it does not move to a stranger.
        if (attempt.standing.is_own and not standing.is_own) or standing.provider in attempt.slot.known:
            return False
        return may(attempt.slot, standing)

    def _sooner_elsewhere(self, attempt: Attempt, here_s: float, now: float) -> Standing | None:
        """A provider that would finish enough sooner than the present one's `here_s`; None if there is none."""
        worth_s = _worth_s(attempt, here_s, now)
        if worth_s <= 0:
            return None
        slot = attempt.slot

        def idle(seat: Seat) -> bool:
            return self._may_take(seat.standing, attempt, self._in_flight.may_at_once)

        def busy(seat: Seat) -> bool:
            return self._may_take(seat.standing, attempt, self._in_flight.may_unpaid)

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
    """The most seconds that a job may take elsewhere for a move to be worth it; `here_s` is what it takes here."""
    return min(here_s * _PART, here_s - _SOONER_S, attempt.slot.ends_at - now)
