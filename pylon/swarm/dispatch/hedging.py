"""Hedging: the slowest few jobs also go to a second provider, one that is idle and needs no payment first."""

import random

from pylon.swarm.dispatch.in_flight import InFlight
from pylon.swarm.dispatch.roster import Roster
from pylon.swarm.dispatch.seats import Seat
from pylon.swarm.dispatch.silence import Silence
from pylon.swarm.dispatch.slot import Attempt, Slot
from pylon.swarm.dispatch.timers import Timers
from pylon.swarm.settings import DispatchSettings

HEDGE_AFTER_S = 0.25
HEDGE_QUANTILE = 0.9
HEDGE_FACTOR = 1.5
# Most hedges per job: a job that is slow everywhere must not use up the share of the others.
MOST_HEDGES = 3
# A job whose requests were lost so often is sent to two providers at once, if one is idle.
UNLUCKY = 2


class Hedging:
    """See the module."""

    def __init__(
        self,
        settings: DispatchSettings,
        roster: Roster,
        in_flight: InFlight,
        timers: Timers,
        silence: Silence,
        rng: random.Random,
    ) -> None:
        self._settings = settings
        self._roster = roster
        self._in_flight = in_flight
        self._timers = timers
        self._silence = silence
        self._rng = rng

    def published(self, attempt: Attempt, now: float) -> None:
        """An attempt was published: from now on it is looked at for being slow."""
        if self._settings.hedge_share > 0:
            self._timers.at(now + HEDGE_AFTER_S, self._consider, attempt)

    def _consider(self, attempt: Attempt, now: float) -> None:
        slot = attempt.slot
        lane = slot.lane
        usual = lane.figures.usual(HEDGE_QUANTILE)
        if len(slot.live) > 1:
            # It is hedged already. If the second attempt fails, the first is alone again and is looked at once more.
            pass
        elif slot.silences >= UNLUCKY and self._silence.is_common:
            self._hedge(slot, now)
        elif usual is not None:
            late_at = attempt.sent_at + max(HEDGE_AFTER_S, HEDGE_FACTOR * usual) * attempt.rounds
            if now < late_at:
                self._timers.at(late_at, self._consider, attempt)
                return
            # It is late already, and must not rank as quick as a provider of which nothing is known.
            attempt.standing.pace.at_least((now - attempt.sent_at) / attempt.rounds)
            self._roster.place(attempt.standing, now)
            if lane.figures.is_among_the_last(attempt):
                self._hedge(slot, now)
        self._timers.at(now + HEDGE_AFTER_S, self._consider, attempt)

    def _hedge(self, slot: Slot, now: float) -> None:
        lane = slot.lane
        # Jobs that were never sent come first. After a pause of the program the slot's own end may be due, but not
        # handled yet.
        if (
            self._roster.coming
            or lane.presses
            or self._in_flight.count >= self._settings.width
            or slot.ends_at <= now
        ):
            return
        if not lane.figures.may_hedge(self._settings.hedge_share):
            return
        if sum(attempt.hedge for attempt in slot.attempts) >= MOST_HEDGES:
            return

        def may(seat: Seat) -> bool:
            return self._in_flight.may_at_once(slot, seat.standing)

        to, known = slot.job.to, slot.known
        found = lane.first_of(to, known, may) if to else lane.choose(self._rng, known, accept=may)
        if found is None:
            return
        self._in_flight.send(slot, found.standing, now, hedge=True)
