"""A lane: the jobs that share one need, and the providers that meet it.

The dispatcher asks a lane for the next job to send and the provider to send it to.
"""

import math
import random
from collections import deque
from collections.abc import Callable, Collection, Iterable
from functools import partial
from itertools import islice

from pylon.swarm.dispatch.candidates import step
from pylon.swarm.dispatch.cheapest import Cheapest
from pylon.swarm.dispatch.constraints import Constraints, May
from pylon.swarm.dispatch.figures import Figures
from pylon.swarm.dispatch.messages import Failure
from pylon.swarm.dispatch.seats import Seat, Seats
from pylon.swarm.dispatch.slot import Attempt, Slot
from pylon.swarm.dispatch.standing import Standing
from pylon.swarm.dispatch.waiting import Waiting
from pylon.swarm.providers.listing import Need
from pylon.swarm.settings import DispatchSettings

# How many of the jobs to be sent again are looked at per decision, so that its cost does not grow with the queue.
_LOOKED_AT = 16
# How many of the cheapest members are kept. Of familiar ones more: a job on its last try may have been with a few
# dozen of them.
_CHEAPEST, _CHEAPEST_FAMILIAR = 8, 64
# This share of first sendings goes to providers that answered before, while they have room; the rest is open to new
# keys, which cost nothing to make.
_TO_FAMILIAR = 0.5


class Lane:
    """See the module. `members` are the live providers that meet the need, by key; `seats` are those of them that
    have room and do not rest."""

    def __init__(self, need: Need, prompt_tokens: int, max_tokens: int, settings: DispatchSettings) -> None:
        self.need = need
        self._price_weight = settings.price_weight
        self._ack_s = settings.ack_s
        # The size of its first job stands for all: those of one run are alike, and only the order matters.
        self._prompt_tokens = prompt_tokens
        self._max_tokens = max_tokens
        self.members: dict[str, Seat] = {}
        # Whether other providers may meet the need too, that were not taken in.
        self.left_out = False
        self.seats = Seats()
        # How many members do not rest, and how many of those met our last request with silence, or answered before.
        self._awake = self._silent = self._familiar = 0
        # Jobs that were never sent, and jobs that are to be sent again.
        self.fresh = Waiting()
        self.again: deque[Slot] = deque()
        self.figures = Figures(settings.samples)
        # Attempts that wait in a provider's queue, the longest wait first: a heap of (minus the time at which the
        # provider will begin, attempt number, attempt).
        self.told: list[tuple[float, int, Attempt]] = []
        # When the last member left.
        self.empty_since = 0.0
        # The shortest time that any job of this lane waits for a provider to appear.
        self.least_wait_s = math.inf
        # When the first request was sent that has met silence since a provider of this lane last said anything.
        self.unheard_since = math.inf
        # With room or not.
        self._cheapest = Cheapest(_CHEAPEST)
        self._cheapest_familiar = Cheapest(_CHEAPEST_FAMILIAR)
        # When the waiting jobs are next looked at, by the failure with which they would be given up.
        self.looks = {Failure.NO_PROVIDER: math.inf, Failure.UNHEARD: math.inf}

    @property
    def waiting(self) -> bool:
        """Whether any job waits to be sent."""
        return bool(self.again or self.fresh.count)

    @property
    def presses(self) -> bool:
        """Whether jobs wait that any provider may have: an idle one should take these before a second try."""
        return bool(self.fresh.count) or any(not slot.job.to for slot in islice(self.again, _LOOKED_AT))

    @property
    def last_waiting(self) -> int:
        """How many jobs wait that any provider may have, if no more wait than are in flight; otherwise 0."""
        return self.fresh.count if self.fresh.count <= self.figures.in_flight else 0

    def seat(self, standing: Standing) -> Seat:
        """Makes a provider a member."""
        seat = self.members[standing.provider] = Seat(standing, self, standing.provider)
        standing.seats.append(seat)
        return seat

    def weigh(self, seat: Seat) -> None:
        """Works out the weight of a seat anew: its provider announced something, or our opinion of it changed."""
        seat.weight = seat.standing.weight(self.need, self._price_weight)

    def dismiss(self, seat: Seat) -> None:
        """Removes a member that no longer meets the need."""
        self._set(seat, awake=False, silent=False, familiar=False)
        self.seats.remove(seat)
        del self.members[seat.provider]
        seat.standing.seats.remove(seat)

    def place(self, seat: Seat, now: float, lost: float) -> None:
        """Ranks a member anew. `lost` is the share of requests that relays lose."""
        standing = seat.standing
        awake = now >= standing.rests_until
        silent = awake and standing.silences > 0
        familiar = awake and standing.is_familiar
        if seat.awake is not awake or seat.silent is not silent or seat.is_familiar is not familiar:
            self._set(seat, awake=awake, silent=silent, familiar=familiar)
        if awake and standing.has_room(lost):
            rank = standing.rank(self._prompt_tokens, self._max_tokens, seat.weight, now)
            self.seats.put(seat, step(rank))
        elif seat.step >= 0:
            self.seats.remove(seat)

    def _set(self, seat: Seat, *, awake: bool, silent: bool, familiar: bool) -> None:
        if seat.awake is not awake:
            seat.awake = awake
            self._awake += 1 if awake else -1
        if seat.silent is not silent:
            seat.silent = silent
            self._silent += 1 if silent else -1
        if seat.is_familiar is not familiar:
            seat.is_familiar = familiar
            self._familiar += 1 if familiar else -1

    @property
    def priorities(self) -> Collection[int]:
        """The priorities of the waiting jobs."""
        if not self.again:
            return self.fresh.priorities
        return {*self.fresh.priorities, *(slot.job.priority for slot in islice(self.again, _LOOKED_AT))}

    @property
    def priority(self) -> int:
        """The highest priority of a waiting job; 0 when none waits."""
        return max(self.priorities, default=0)

    def slots(self) -> list[Slot]:
        """All waiting slots."""
        return [slot for slot in (*self.again, *self.fresh.slots()) if not slot.done]

    def next_send(self, rng: random.Random, constraints: Constraints, least: int) -> tuple[Slot, Standing] | None:
        """Takes a slot that can be sent now out of the queue, and picks its provider; None if there is none.

        Slots to be sent again go first. Of the others only those of priority `least` or higher are considered. Runs
        that are short of money are passed over.
        """
        if not (self.again or self.seats.count):
            return None
        within_s = self._within_s()
        for _ in range(min(_LOOKED_AT, len(self.again))):
            slot = self.again.popleft()
            if slot.done:
                continue
            seat = self._seat_for(slot, rng, within_s, constraints)
            if seat is not None:
                return slot, seat.standing
            self.again.append(slot)
        for slot in self.fresh.firsts(least):
            if constraints.lacks_as_much(slot):
                continue
            seat = self._seat_for_fresh(rng, within_s, partial(_accepts, constraints.may, slot))
            if seat is not None:
                self.fresh.take(slot)
                return slot, seat.standing
            if not constraints.is_short(slot):
                return None
        return None

    def choose(
        self,
        rng: random.Random,
        without: Collection[str] = (),
        *,
        within_s: float = math.inf,
        accept: Callable[[Seat], bool],
    ) -> Seat | None:
        """Picks one of the members with room that would be done soonest.

        Where many customers queue, all that would be done within the usual wait count as equally soon.
        """
        return self.seats.choose(rng, without, worst=step(within_s), alike=self.figures.usual_wait(), accept=accept)

    def _choose_familiar(
        self, rng: random.Random, without: Collection[str], within_s: float, accept: Callable[[Seat], bool]
    ) -> Seat | None:
        return self.seats.choose_familiar(
            rng, without, worst=step(within_s), alike=self.figures.usual_wait(), accept=accept
        )

    def seconds_at(self, standing: Standing) -> float:
        """Seconds that a job of this lane takes at this provider, as far as is known."""
        return standing.seconds(self._prompt_tokens, self._max_tokens)

    def is_cheaper(self, slot: Slot, msat: int, now: float) -> bool:
        """Whether a member would do the job for at most `msat`, so that waiting for it to have room helps."""
        size = slot.job.prompt_tokens, slot.job.max_tokens
        keys = slot.job.to or [seat.provider for seat in self._cheapest.of(self.members.values(), size, now)]
        seats = (self.members.get(key) for key in keys if key not in slot.barred)
        return any(seat is not None and seat.standing.quote(*size) <= msat for seat in seats)

    def has_familiar_for(self, slot: Slot, msat: int, now: float) -> bool:
        """Whether a member that answered us before, and does not rest, would do a job for at most `msat` that it has
        not had yet."""
        familiar = (seat for seat in self.members.values() if seat.is_familiar)
        job, known = slot.job, slot.tried | slot.barred
        # By the size that stands for all. Sizes differ from job to job, and only the order matters here.
        cheapest = self._cheapest_familiar.of(familiar, (self._prompt_tokens, self._max_tokens), now)
        return any(
            seat.is_familiar
            and seat.provider not in known
            and seat.standing.quote(job.prompt_tokens, job.max_tokens) <= msat
            for seat in cheapest
        )

    def others_for(self, slot: Slot) -> bool:
        """Whether a member that has not had this slot yet could take it, now or when it has room."""
        known = slot.tried | slot.barred | {attempt.standing.provider for attempt in slot.live}
        if slot.job.to:
            return any(seat.awake for key in slot.job.to if key not in known and (seat := self.members.get(key)))
        seats = [seat for key in known if (seat := self.members.get(key)) is not None and seat.awake]
        if slot.silences:
            return self._awake - self._silent > sum(not seat.silent for seat in seats)
        return self._awake > len(seats)

    def _has_familiar(self, without: Collection[str]) -> bool:
        """Whether a member answered us before, and does not rest, besides these."""
        seats = (self.members.get(key) for key in without)
        return self._familiar > sum(seat is not None and seat.is_familiar for seat in seats)

    def is_refused_by_all(self, slot: Slot) -> bool:
        """Whether every member that may have this slot has refused it for good."""
        if slot.job.to:
            return not any(
                key in self.members and key not in slot.barred and key not in slot.tried for key in slot.job.to
            )
        return bool(self.members) and len(slot.barred) >= len(self.members) and self.members.keys() <= slot.barred

    def _within_s(self) -> float:
        """The longest expected time, in seconds, at which a provider is still given a job now.

        For the last jobs of a run, waiting for a quick provider that is busy is better than using the slowest one.
        While the queue is long, the slow one helps.
        """
        usual, in_flight = self.figures.usual(0.5), self.figures.in_flight
        if not in_flight or usual is None:
            return math.inf
        queue = (self.fresh.count + len(self.again)) * usual / in_flight
        # Ranks are times with factors of up to two and a half: see `Standing.rank`.
        return 4 * usual + queue

    def _seat_for_fresh(self, rng: random.Random, within_s: float, accept: Callable[[Seat], bool]) -> Seat | None:
        if self.seats.is_mixed and rng.random() < _TO_FAMILIAR:
            # A new provider that never answers costs `ack_s`: a familiar one may be slower by that much, not more.
            found = self._choose_familiar(rng, (), min(within_s, self.seats.soonest_s + self._ack_s), accept)
            if found is not None:
                return found
        return self.choose(rng, within_s=within_s, accept=accept)

    def _seat_for(self, slot: Slot, rng: random.Random, within_s: float, constraints: Constraints) -> Seat | None:
        may = constraints.may
        if slot.job.to:
            return self.first_of(slot.job.to, slot.tried | slot.barred, lambda seat: may(slot, seat.standing))
        known = slot.tried | slot.barred

        def first(seat: Seat) -> bool:
            # A slot that met silence once is not sent to another silent provider: those are tried with other jobs.
            return not (slot.silences and seat.silent) and may(slot, seat.standing)

        # Of the providers that we never heard from a hundred may be mute, or refuse all: each would cost this job a
        # deadline, or one of the few refusals that it may meet.
        unlucky = slot.silences or slot.failures or slot.refusals
        found = self._choose_familiar(rng, known, within_s, first) if unlucky else None
        if found is None and slot.on_last_try and self._has_familiar(known) and constraints.may_wait(slot):
            # It waits until one of these has room: a crowd of new keys must not end it before they had it.
            return None
        if found is None:
            found = self.choose(rng, known, within_s=within_s, accept=first)
        if found is None and not self.others_for(slot):
            # No other provider is to be expected: one that failed once may do better now.
            found = self.choose(rng, slot.barred, within_s=within_s, accept=lambda seat: may(slot, seat.standing))
        return found

    def first_of(self, wanted: Iterable[str], without: Collection[str], may: Callable[[Seat], bool]) -> Seat | None:
        """The first of these providers that has room and passes `may`."""
        seats = (self.members.get(key) for key in wanted if key not in without)
        return next((seat for seat in seats if seat is not None and seat.step >= 0 and may(seat)), None)


def _accepts(may: May, slot: Slot, seat: Seat) -> bool:
    return may(slot, seat.standing)
