"""Attempts in flight: what each takes up of its relay, its provider and its run's budget."""

from collections.abc import Callable

from pylon.swarm.dispatch import messages as m
from pylon.swarm.dispatch.budget import Budgets, Claim
from pylon.swarm.dispatch.lane import Lane
from pylon.swarm.dispatch.room import RelayRoom
from pylon.swarm.dispatch.roster import Roster
from pylon.swarm.dispatch.slot import Attempt, Slot
from pylon.swarm.dispatch.standing import Standing
from pylon.swarm.dispatch.timers import Timers

# Seconds after a request's expiry from which no receipt for it is booked any more: relays and providers keep results
# for an hour, orders are kept for two hours, and asking for missing receipts takes a while.
LAPSE_S = 2 * 3_600.0 + 300.0


class InFlight:
    """See the module. `sent` is called with each new attempt and the time; commands are appended to `out`."""

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
        """The number of the latest attempt."""
        self.count = 0
        """How many attempts are waited for."""
        self.broke: Slot | None = None
        """A slot that its run cannot pay for: nothing is reserved that could come back, and no provider is cheap
        enough."""
        # A slot that its run cannot pay for now, but may later; and by lane and size of the job, the largest amount
        # that was found to be too little in this turn.
        self._short: Slot | None = None
        self._looked_at = 0.0
        self._too_little: dict[tuple[Lane, int, int], int] = {}
        self._roster = roster
        self._room = room
        self._timers = timers
        self._out = out
        self._sent = sent
        self.attempts: dict[int, Attempt] = {}
        """The attempts of open slots by number, including those that are not waited for any more."""

    def may(self, slot: Slot, standing: Standing) -> bool:
        """Whether relays and the run's budget allow sending this slot to this provider."""
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

    def may_wait(self, slot: Slot) -> bool:
        """Whether the slot's run could pay a familiar provider that it has not been with."""
        left = self.budgets.left(slot.job.run) if self.budgets.by_run else None
        return left is None or slot.lane.has_familiar_for(slot, left, self._looked_at)

    def look_anew(self, now: float) -> None:
        """Forgets which runs were short of money: some may have come back, or a cheaper provider may be there."""
        self._short = None
        self._looked_at = now
        if self._too_little:
            self._too_little.clear()

    def is_short(self, slot: Slot) -> bool:
        """Whether `may` just refused this slot for lack of money, and waiting may help."""
        left = self.budgets.left(slot.job.run)
        if self._short is not slot or left is None:
            return False
        size = (slot.lane, slot.job.prompt_tokens, slot.job.max_tokens)
        self._too_little[size] = max(left, self._too_little.get(size, left))
        return True

    def lacks_as_much(self, slot: Slot) -> bool:
        """Whether its run waits for money, and has no more left than a run that was short for a job of this size.

        Saves looking for a provider for each of many runs that cannot pay.
        """
        if not self._too_little:
            return False
        run, left = slot.job.run, self.budgets.left(slot.job.run)
        least = self._too_little.get((slot.lane, slot.job.prompt_tokens, slot.job.max_tokens))
        return least is not None and left is not None and left <= least and self.budgets.reserved(run) > 0

    def may_again(self, attempt: Attempt) -> bool:
        """Whether the run could pay for a second attempt at the same price."""
        left = self.budgets.left(attempt.slot.job.run) if self.budgets.by_run else None
        return left is None or attempt.cost <= left

    def may_unpaid(self, slot: Slot, standing: Standing) -> bool:
        """As `may`, and the job would not wait for a payment: the provider is free, or we have money or credit
        there."""
        listing = standing.listing
        if listing is None or not (listing.price.is_free or listing.funded()):
            return False
        return not standing.silences and self.may(slot, standing)

    def may_at_once(self, slot: Slot, standing: Standing) -> bool:
        """As `may_unpaid`, and the provider is idle, so that it would begin at once."""
        return standing.is_idle and self.may_unpaid(slot, standing)

    def send(self, slot: Slot, standing: Standing, now: float, *, hedge: bool) -> None:
        """Begins an attempt, reserves its cost, and commands that it be sent."""
        attempt = self.begin(slot, standing, now, hedge=hedge)
        number, provider = slot.job.slot, standing.provider
        self._out.append(m.Send(number, attempt.id, provider, slot.expires_at, hedge, attempt.relay))

    def begin(
        self, slot: Slot, standing: Standing, now: float, *, hedge: bool = False, cost: int | None = None
    ) -> Attempt:
        """Begins an attempt and reserves its cost. `cost` (msat) is the most it may be charged; None: by the
        price."""
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
        """The attempt is not waited for any more. `charged` is what it cost in msat; None: not known yet.

        While it is not known, the whole cost stays set aside.
        """
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
        """The attempt goes over another relay than the one it was counted on."""
        attempt.relay = self._room.move(attempt.relay, relay)

    def charge(self, attempt: Attempt, charged: int | None) -> None:
        """An attempt that was not waited for any more was charged all the same.

        Its provider had said that it would not do the job, or the attempt was given up and its whole cost stayed set
        aside. `charged` None: a receipt may still come.
        """
        if charged is None:
            # Until a receipt comes, all that it may cost is set aside.
            if not self.budgets.is_open(attempt.id):
                self.budgets.reserve(attempt.slot.job.run, attempt.cost)
                self._keep(attempt)
            return
        before, attempt.counted = attempt.counted, charged
        if not self.budgets.charged(attempt.id, charged) and self.budgets.by_run:
            self.budgets.settle(attempt.slot.job.run, 0, charged - before)

    def charge_late(self, attempt: int, charged: int) -> None:
        """An attempt whose slot has its outcome was charged; nothing happens if the charge was known."""
        self.budgets.charged(attempt, charged)

    def owe(self, run: int, cost: int, lapses_at: float) -> None:
        """Sets aside what an earlier process's request may be charged until `lapses_at`, as the next attempt. See
        `Owe`."""
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
        """Commands that the attempt's provider be told to stop."""
        self._out.append(m.CancelAttempt(attempt.slot.job.slot, attempt.id, attempt.standing.provider))

    def over(self, slot: Slot, now: float) -> None:
        """The slot has its outcome: attempts that are still in flight for it are cancelled."""
        for attempt in slot.attempts:
            if attempt.live:
                self.release(attempt, now)
                self.cancel(attempt)
            del self.attempts[attempt.id]
