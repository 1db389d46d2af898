"""Attempts that are on their way: what each takes of relays, of its provider and of its run's budget."""

from collections.abc import Callable

from pylon.swarm.dispatch import messages as m
from pylon.swarm.dispatch.budget import Budgets, Claim
from pylon.swarm.dispatch.lane import Lane
from pylon.swarm.dispatch.room import RelayRoom
from pylon.swarm.dispatch.roster import Roster
from pylon.swarm.dispatch.slot import Attempt, Slot
from pylon.swarm.dispatch.standing import Standing
from pylon.swarm.dispatch.timers import Timers

# So long after a request has expired no receipt for it is booked any more: relays and providers keep results for an
# hour, orders are kept for two, and asking for what is missing takes a while.
LAPSE_S = 2 * 3_600.0 + 300.0


class InFlight:
    """`sent` is told of each new attempt; commands are appended to `out`."""

    def __init__(
        self,
        roster: Roster,
        room: RelayRoom,
        timers: Timers,
        out: list[m.DispatchCommand],
        sent: Callable[[Attempt, float], None],
    ) -> None:
        self.budgets = Budgets()
        self.last_attempt = 0
        self.count = 0
        self.broke: Slot | None = None
        """What would have gone out, had its run had the money, of which nothing is out, nor enough for anybody."""
        # The same where waiting may help, and by lane and size what was left to runs that had too little.
        self._short: Slot | None = None
        self._looked_at = 0.0
        self._too_little: dict[tuple[Lane, int, int], int] = {}
        self._roster = roster
        self._room = room
        self._timers = timers
        self._out = out
        self._sent = sent
        self.attempts: dict[int, Attempt] = {}
        """By their numbers: those of slots that are open, those included that are waited for no longer."""

    def may(self, slot: Slot, standing: Standing) -> bool:
        """Whether relays and budget allow it."""
        if not self._room.has(standing.relays):
            return False
        left = self.budgets.left(slot.job.run) if self.budgets.by_run else None
        if left is None or standing.quote(slot.job.prompt_tokens, slot.job.max_tokens) <= left:
            return True
        if self.budgets.reserved(slot.job.run) or slot.lane.is_cheaper(slot, left, self._looked_at):
            self._short = slot
        else:
            self.broke = slot
        return False

    def look_anew(self, now: float) -> None:
        """Since anybody was found to be short, money may have come back, and somebody cheaper may be there."""
        self._short = None
        self._looked_at = now
        if self._too_little:
            self._too_little.clear()

    def is_short(self, slot: Slot) -> bool:
        """Whether it was just refused since its run's money is out, and waiting may help."""
        left = self.budgets.left(slot.job.run)
        if self._short is not slot or left is None:
            return False
        size = (slot.lane, slot.job.prompt_tokens, slot.job.max_tokens)
        self._too_little[size] = max(left, self._too_little.get(size, left))
        return True

    def lacks_as_much(self, slot: Slot) -> bool:
        """Whether its run waits for money, and has no more left than one that was short for a job of that size."""
        if not self._too_little:
            return False
        run, left = slot.job.run, self.budgets.left(slot.job.run)
        least = self._too_little.get((slot.lane, slot.job.prompt_tokens, slot.job.max_tokens))
        return least is not None and left is not None and left <= least and self.budgets.reserved(run) > 0

    def may_again(self, attempt: Attempt) -> bool:
        """Whether its run could pay for another one as dear beside it."""
        left = self.budgets.left(attempt.slot.job.run) if self.budgets.by_run else None
        return left is None or attempt.cost <= left

    def may_unpaid(self, slot: Slot, standing: Standing) -> bool:
        """The same, and no payment is waited for there: its provider is free, or has money or credit of ours."""
        listing = standing.listing
        if listing is None or not (listing.price.is_free or listing.funded()):
            return False
        return not standing.silences and self.may(slot, standing)

    def may_at_once(self, slot: Slot, standing: Standing) -> bool:
        """The same, and somebody idle would begin with it."""
        return standing.is_idle and self.may_unpaid(slot, standing)

    def send(self, slot: Slot, standing: Standing, now: float, *, hedge: bool) -> None:
        """Has it sent, its budget being reserved."""
        attempt = self.begin(slot, standing, now, hedge=hedge)
        number, provider = slot.job.slot, standing.provider
        self._out.append(m.Send(number, attempt.id, provider, slot.expires_at, hedge, attempt.relay))

    def begin(
        self, slot: Slot, standing: Standing, now: float, *, hedge: bool = False, cost: int | None = None
    ) -> Attempt:
        """Counts it as sent. `cost` is the most that it may be charged, where that is known already."""
        job = slot.job
        self.last_attempt += 1
        attempt = Attempt(self.last_attempt, slot, standing, now, standing.rounds, hedge)
        attempt.cost = standing.quote(job.prompt_tokens, job.max_tokens) if cost is None else cost
        attempt.relay = self._room.take(standing.relays)
        attempt.answered_before = slot.lane.figures.answered
        if self.budgets.by_run:
            self.budgets.reserve(job.run, attempt.cost)
        self.attempts[attempt.id] = attempt
        slot.attempts.append(attempt)
        slot.lane.figures.began(hedge=hedge)
        standing.in_flight += 1
        self.count += 1
        self._roster.place(standing, now)
        self._sent(attempt, now)
        return attempt

    def release(self, attempt: Attempt, now: float, charged: int | None = None) -> None:
        """It is not waited for any more. Without a charge it counts as all that it could cost until that is known."""
        attempt.live = False
        attempt.counted = attempt.cost if charged is None else charged
        self._room.free(attempt.relay)
        if self.budgets.by_run:
            if charged is None:
                self._keep(attempt)
            else:
                self.budgets.settle(attempt.slot.job.run, attempt.cost, charged)
        attempt.standing.in_flight -= 1
        attempt.slot.lane.figures.in_flight -= 1
        self.count -= 1
        self._roster.place(attempt.standing, now)

    def reroute(self, attempt: Attempt, relay: str) -> None:
        """It goes over another relay than was counted."""
        attempt.relay = self._room.move(attempt.relay, relay)

    def charge(self, attempt: Attempt, charged: int | None) -> None:
        """One that was not waited for any more was charged all the same: by a provider that had said it would not
        work, or one that was given up, whose whole cost was kept.
        """
        if charged is None:
            # A receipt may come for it, until when all that it may cost stays set aside.
            if not self.budgets.is_open(attempt.id):
                self.budgets.reserve(attempt.slot.job.run, attempt.cost)
                self._keep(attempt)
            return
        before, attempt.counted = attempt.counted, charged
        if not self.budgets.charged(attempt.id, charged) and self.budgets.by_run:
            self.budgets.settle(attempt.slot.job.run, 0, charged - before)

    def charge_late(self, attempt: int, charged: int) -> None:
        """The same for one of a slot that has its outcome, as far as that was not known."""
        self.budgets.charged(attempt, charged)

    def owe(self, run: int, cost: int, lapses_at: float) -> None:
        """An earlier process sent something for this run, which may be charged until then. It has the next number."""
        self.last_attempt += 1
        if (claim := self.budgets.owe(run, self.last_attempt, cost)) is not None:
            self._timers.at(lapses_at, self._lapse, claim)

    def _keep(self, attempt: Attempt) -> None:
        slot = attempt.slot
        claim = self.budgets.give_up(slot.job.run, attempt.id, attempt.cost)
        if claim is not None:
            self._timers.at(slot.expires_at + LAPSE_S, self._lapse, claim)

    def _lapse(self, claim: Claim, _: float) -> None:
        self.budgets.charged(claim.attempt, 0)
        self._out.append(m.Lapsed(claim.attempt))

    def cancel(self, attempt: Attempt) -> None:
        """Its provider is told to stop."""
        self._out.append(m.CancelAttempt(attempt.slot.job.slot, attempt.id, attempt.standing.provider))

    def over(self, slot: Slot, now: float) -> None:
        """The slot has its outcome: what is still out for it is cancelled."""
        for attempt in slot.attempts:
            if attempt.live:
                self.release(attempt, now)
                self.cancel(attempt)
            del self.attempts[attempt.id]
