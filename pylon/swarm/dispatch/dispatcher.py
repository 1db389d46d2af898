"""Who gets which job, and what is done when nothing comes back: events in, commands out, no socket and no clock.

    dispatcher = Dispatcher(DispatchSettings(), random.Random())
    for command in dispatcher.handle(Add(jobs), now): …

Every slot ends with exactly one `Deliver` or `GiveUp`, except those of a run that is forgotten. The cost of a
decision does not grow with the number of providers, which are kept in order of expected completion (`roster`), nor
with the number of deadlines (`timers`).
"""

import random
from collections.abc import Sequence

from pylon.swarm.dispatch import messages as m
from pylon.swarm.dispatch.budget import RunBudget
from pylon.swarm.dispatch.hedging import Hedging
from pylon.swarm.dispatch.in_flight import InFlight
from pylon.swarm.dispatch.lane import Lane
from pylon.swarm.dispatch.open_slots import OpenSlots
from pylon.swarm.dispatch.outcomes import Outcomes
from pylon.swarm.dispatch.rebalancing import Rebalancing
from pylon.swarm.dispatch.room import RelayRoom
from pylon.swarm.dispatch.roster import Roster
from pylon.swarm.dispatch.silence import Silence
from pylon.swarm.dispatch.slot import Attempt
from pylon.swarm.dispatch.timers import Timers
from pylon.swarm.providers.directory import ProviderDown, ProviderUp
from pylon.swarm.providers.listing import Need
from pylon.swarm.settings import DispatchSettings


class Dispatcher:
    """See the module. `relays` are the URLs of the customer's relays; with none, requests are not counted by
    relay."""

    def __init__(self, settings: DispatchSettings, rng: random.Random, relays: Sequence[str] = ()) -> None:
        self._settings = settings
        self._rng = rng
        self._out: list[m.DispatchCommand] = []
        self._room = RelayRoom(relays, settings.relay_width)
        self._silence = Silence()
        self._timers = Timers()
        self._roster = Roster(settings, rng, self._silence, self._room.shared, self._emptied)
        self._in_flight = InFlight(self._roster, self._room, self._timers, self._out, self._sent)
        self._slots = OpenSlots(settings, self._roster, self._in_flight, self._timers, self._out)
        self._outcomes = Outcomes(
            settings=settings,
            roster=self._roster,
            slots=self._slots,
            in_flight=self._in_flight,
            hedging=Hedging(settings, self._roster, self._in_flight, self._timers, self._silence, rng),
            rebalancing=Rebalancing(self._roster, self._in_flight, rng),
            silence=self._silence,
            timers=self._timers,
        )

    @property
    def open(self) -> int:
        """Slots without an outcome."""
        return len(self._slots)

    @property
    def unfilled(self) -> int:
        """Slots without an outcome, and jobs that are about to be added."""
        return len(self._slots) + self._roster.coming

    @property
    def in_flight(self) -> int:
        """How many attempts are waited for."""
        return self._in_flight.count

    @property
    def last_attempt(self) -> int:
        """The number of the latest attempt; the next one has the next number."""
        return self._in_flight.last_attempt

    def rest_of(self, provider: str, now: float) -> tuple[float, str] | None:
        """For how many more seconds a provider is left alone, and why; None if it is not."""
        standing = self._roster.standing_of(provider)
        if standing is None or not standing.rests(now):
            return None
        return standing.rests_until - now, standing.rests_for

    def budget_left(self, run: int) -> int | None:
        """What a run may still reserve, in msat; None without a limit."""
        return self._in_flight.budgets.left(run)

    def budget(self, run: int) -> RunBudget | None:
        """A run's budget, which goes on counting after the run has ended; None for a run without a limit."""
        return self._in_flight.budgets.by_run.get(run)

    def is_open(self, attempt: int) -> bool:
        """Whether this attempt was given up, and its charge is counted in a budget but not known yet."""
        return self._in_flight.budgets.is_open(attempt)

    def last_waiting(self, need: Need) -> int:
        """How many jobs of this need wait, if they are the last and no more than are in flight; otherwise 0."""
        return 0 if self._roster.coming else self._roster.last_waiting(need)

    def emptiest(self, relays: Sequence[str]) -> str:
        """The one of these relays with the fewest requests in flight."""
        return self._room.emptiest(relays, self._rng)

    def is_live(self, attempt: int) -> bool:
        """Whether this attempt is still to be published, or waited for."""
        found = self._in_flight.attempts.get(attempt)
        return found is not None and found.live

    def cost(self, attempt: int) -> int:
        """What was reserved for this attempt, in msat; 0 for an unknown one."""
        found = self._in_flight.attempts.get(attempt)
        return 0 if found is None else found.cost

    def handle(self, event: m.SwarmEvent, now: float) -> list[m.DispatchCommand]:
        """Takes in an event and returns what is to be done. Events about slots and attempts that are over do
        nothing."""
        outcomes, attempts = self._outcomes, self._in_flight.attempts
        # The most frequent come first.
        match event:
            case m.Answered(number, charged) if (attempt := attempts.get(number)) is not None:
                outcomes.answered(attempt, charged, now)
            case m.Published(number) if (attempt := attempts.get(number)) is not None:
                outcomes.published(attempt, now)
            case ProviderUp(listing):
                self._roster.up(listing, now)
            case m.Acknowledged(number, wait_s) if (attempt := attempts.get(number)) is not None:
                outcomes.acknowledged(attempt, wait_s, now)
            case ProviderDown(provider):
                self._roster.down(provider, now)
            case m.Add(jobs):
                self._slots.add(jobs, now)
            case m.Coming(count):
                self._roster.coming = count
            case m.Adopt(job, provider, cost, taken_back):
                self._slots.adopt(job, provider, cost, now, taken_back=taken_back)
            case m.Owe(run, cost, lapses_at):
                self._in_flight.owe(run, cost, lapses_at)
            case m.Fund(run, msat):
                self._in_flight.budgets.fund(run, msat)
            case m.Drop(slots, failure):
                self._slots.drop(slots, failure, now)
            case m.Forget(run, slots):
                self._slots.forget(run, slots, now)
                self._in_flight.budgets.end(run)
            case m.Bound(slot, ends_at):
                self._slots.bound(slot, ends_at)
            case m.SendFailed(number, unmade, too_large, unknown) if (attempt := attempts.get(number)) is not None:
                outcomes.send_failed(attempt, now, unmade=unmade, too_large=too_large, unknown=unknown)
            case m.Rerouted(number, relay) if (attempt := attempts.get(number)) is not None and attempt.live:
                self._in_flight.reroute(attempt, relay)
            case m.RelaysDown(urls, gone):
                self._room.lost(urls, gone)
            case m.Unheard(number) if (attempt := attempts.get(number)) is not None:
                outcomes.unheard(attempt, now)
            case m.Refused(number, code, ours, unpaid) if (attempt := attempts.get(number)) is not None:
                outcomes.refused(attempt, code, now, ours=ours, unpaid=unpaid)
            case m.Charged(number, charged):
                if (attempt := attempts.get(number)) is None:
                    self._in_flight.charge_late(number, charged)
                elif not attempt.live:
                    self._in_flight.charge(attempt, charged)
            case m.Tick():
                pass
        self._timers.run(now)
        self._fill(now)
        out = self._out.copy()
        self._out.clear()
        return out

    def _emptied(self, lane: Lane, now: float) -> None:
        self._slots.look_for_nobody(lane, now)

    def _sent(self, attempt: Attempt, now: float) -> None:
        self._outcomes.sent(attempt, now)

    def _fill(self, now: float) -> None:
        if self._in_flight.count >= self._settings.width:
            return
        self._in_flight.look_anew(now)
        priorities = self._priorities()
        for priority in priorities:
            # Most often there is one priority, and every lane has its turn.
            lowest, idle = priority == priorities[-1], 0
            while idle < len(self._roster.turns) and self._in_flight.count < self._settings.width:
                lane = self._roster.turns[0]
                self._roster.turns.rotate(-1)
                idle += 1
                if lane.waiting and (lowest or lane.priority >= priority) and self._one_of(lane, priority, now):
                    idle = 0

    def _priorities(self) -> list[int]:
        """The priorities of waiting jobs, the highest first."""
        waiting = [lane.priorities for lane in self._roster.turns if lane.again or lane.fresh.count]
        return sorted(set().union(*waiting), reverse=True) if waiting else []

    def _one_of(self, lane: Lane, priority: int, now: float) -> bool:
        """Sends or gives up one job of this lane, of this priority or higher. False if there is none to send now."""
        in_flight = self._in_flight
        in_flight.broke = None
        found = lane.next_send(self._rng, in_flight, priority)
        if found is not None:
            slot, standing = found
            in_flight.send(slot, standing, now, hedge=False)
            return True
        if lane.again and not lane.again[0].done and lane.is_refused_by_all(lane.again[0]):
            self._slots.give_up(lane.again.popleft(), m.Failure.REFUSED, now)
            return True
        if in_flight.broke is not None:
            self._slots.give_up(in_flight.broke, m.Failure.BUDGET, now)
            return True
        return False
