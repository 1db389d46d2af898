"""Jobs of one need, and the providers that do for them."""

import math
import random
from collections import deque
from collections.abc import Callable, Collection, Iterable
from functools import partial
from heapq import nsmallest
from itertools import islice

from pylon.swarm.dispatch.candidates import step
from pylon.swarm.dispatch.constraints import Constraints, May
from pylon.swarm.dispatch.figures import Figures
from pylon.swarm.dispatch.messages import Failure, SlotJob
from pylon.swarm.dispatch.seats import Seat, Seats
from pylon.swarm.dispatch.slot import Attempt, Slot
from pylon.swarm.dispatch.standing import Standing
from pylon.swarm.dispatch.waiting import Waiting
from pylon.swarm.providers.listing import Need
from pylon.swarm.settings import DispatchSettings

# Jobs that wait for somebody new must not make every decision as long as their queue.
_LOOKED_AT = 16
# So many of the cheapest are known for a second, for jobs of one size: to find them, all members are looked at.
_CHEAPEST, _CHEAPEST_S = 8, 1.0
# So much of what was never sent goes to those who answered before, as long as they have room: a crowd of new keys,
# which cost nothing, is given the rest.
_TO_FAMILIAR = 0.5


class Lane:
    """`members` do for the need and are alive; of those that do not rest, `seats` are those with room."""

    def __init__(self, need: Need, prompt_tokens: int, max_tokens: int, settings: DispatchSettings) -> None:
        self.need = need
        self._price_weight = settings.price_weight
        self._ack_s = settings.ack_s
        # The size of its first job stands for all: those of one run are alike, and only the order matters.
        self._prompt_tokens = prompt_tokens
        self._max_tokens = max_tokens
        self.members: dict[str, Seat] = {}
        # Whether there may be others who would do.
        self.left_out = False
        self.seats = Seats()
        # How many of the members are so.
        self._awake = self._silent = 0
        self.fresh = Waiting()
        self.again: deque[Slot] = deque()
        self.figures = Figures(settings.samples)
        # What waits, the longest first: a heap of when each begins, negative, with the attempt's number.
        self.told: list[tuple[float, int, Attempt]] = []
        self.empty_since = 0.0
        # Of all jobs that it has had, the shortest that one waits for anybody to come.
        self.least_wait_s = math.inf
        # When the first request was sent that met silence since anybody had a word.
        self.unheard_since = math.inf
        # The cheapest for jobs of that size, with room or not, and until when they are taken for that.
        self._cheapest: list[Seat] = []
        self._cheapest_size = (0, 0)
        self._cheapest_until = -math.inf
        # When what waits is next looked at, by what it would be given up for: nobody is here, or nobody has a word.
        self.looks = {Failure.NO_PROVIDER: math.inf, Failure.UNHEARD: math.inf}

    @property
    def waiting(self) -> bool:
        return bool(self.again or self.fresh.count)

    @property
    def presses(self) -> bool:
        """Whether somebody idle has better to do than a second try: jobs wait that any provider may have."""
        return bool(self.fresh.count) or any(not slot.job.to for slot in islice(self.again, _LOOKED_AT))

    @property
    def last_waiting(self) -> int:
        """How many jobs wait that any provider may have, if these are no more than are on their way."""
        return self.fresh.count if self.fresh.count <= self.figures.in_flight else 0

    def seat(self, standing: Standing) -> Seat:
        """Takes a provider in."""
        seat = self.members[standing.provider] = Seat(standing, self, standing.provider)
        standing.seats.append(seat)
        return seat

    def weigh(self, seat: Seat) -> None:
        """Its provider says something new, or we think of it otherwise."""
        seat.weight = seat.standing.weight(self.need, self._price_weight)

    def dismiss(self, seat: Seat) -> None:
        """A provider does not do for the need any more."""
        self._set(seat, awake=False, silent=False)
        self.seats.remove(seat)
        del self.members[seat.provider]
        seat.standing.seats.remove(seat)

    def place(self, seat: Seat, now: float, lost: float) -> None:
        """Puts a provider where it now belongs. `lost` is the share of requests that never arrive."""
        standing = seat.standing
        awake = now >= standing.rests_until
        silent = awake and standing.silences > 0
        if seat.awake is not awake or seat.silent is not silent:
            self._set(seat, awake=awake, silent=silent)
        if awake and standing.has_room(lost):
            rank = standing.rank(self._prompt_tokens, self._max_tokens, seat.weight, now)
            self.seats.put(seat, step(rank))
        elif seat.step >= 0:
            self.seats.remove(seat)

    def _set(self, seat: Seat, *, awake: bool, silent: bool) -> None:
        if seat.awake is not awake:
            seat.awake = awake
            self._awake += 1 if awake else -1
        if seat.silent is not silent:
            seat.silent = silent
            self._silent += 1 if silent else -1

    @property
    def priorities(self) -> Collection[int]:
        """Those of what waits."""
        if not self.again:
            return self.fresh.priorities
        return {*self.fresh.priorities, *(slot.job.priority for slot in islice(self.again, _LOOKED_AT))}

    @property
    def priority(self) -> int:
        """The highest of them."""
        return max(self.priorities, default=0)

    def slots(self) -> list[Slot]:
        """All that waits."""
        return [slot for slot in (*self.again, *self.fresh.slots()) if not slot.done]

    def next_send(self, rng: random.Random, constraints: Constraints, least: int) -> tuple[Slot, Standing] | None:
        """A slot that can be sent now, taken out of the queue, and the provider for it. Re-issued ones go first, and
        of the others those of a priority below `least` stay.

        Whoever is short of money is passed over.
        """
        if not (self.again or self.seats.count):
            return None
        within_s = self._within_s()
        for _ in range(min(_LOOKED_AT, len(self.again))):
            slot = self.again.popleft()
            if slot.done:
                continue
            seat = self._seat_for(slot, rng, within_s, constraints.may)
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
        """One of those with room who would be done soonest, or as soon as anybody where many customers are."""
        return self.seats.choose(rng, without, worst=step(within_s), alike=self.figures.usual_wait(), accept=accept)

    def _choose_familiar(
        self, rng: random.Random, without: Collection[str], within_s: float, accept: Callable[[Seat], bool]
    ) -> Seat | None:
        return self.seats.choose_familiar(
            rng, without, worst=step(within_s), alike=self.figures.usual_wait(), accept=accept
        )

    def seconds_at(self, standing: Standing) -> float:
        """What a job takes there, as far as is known."""
        return standing.seconds(self._prompt_tokens, self._max_tokens)

    def is_cheaper(self, slot: Slot, msat: int, now: float) -> bool:
        """Whether somebody here does it for so little, and only has no room now."""
        job = slot.job
        seats = (self.members.get(key) for key in job.to) if job.to else self._cheapest_for(job, now)
        return any(
            seat is not None
            and seat.provider not in slot.barred
            and seat.standing.quote(job.prompt_tokens, job.max_tokens) <= msat
            for seat in seats
        )

    def _cheapest_for(self, job: SlotJob, now: float) -> Iterable[Seat | None]:
        size = job.prompt_tokens, job.max_tokens
        if size != self._cheapest_size or now >= self._cheapest_until:
            self._cheapest = nsmallest(_CHEAPEST, self.members.values(), key=lambda seat: seat.standing.quote(*size))
            self._cheapest_size, self._cheapest_until = size, now + _CHEAPEST_S
        # Some may have left since.
        return (self.members.get(seat.provider) for seat in self._cheapest)

    def others_for(self, slot: Slot) -> bool:
        """Whether somebody who has not had this slot yet could take it, now or when there is room."""
        known = slot.tried | slot.barred | {attempt.standing.provider for attempt in slot.live}
        if slot.job.to:
            return any(seat.awake for key in slot.job.to if key not in known and (seat := self.members.get(key)))
        seats = [seat for key in known if (seat := self.members.get(key)) is not None and seat.awake]
        if slot.silences:
            return self._awake - self._silent > sum(not seat.silent for seat in seats)
        return self._awake > len(seats)

    def is_refused_by_all(self, slot: Slot) -> bool:
        """Whether everybody who is left has refused this slot for good."""
        if slot.job.to:
            return not any(
                key in self.members and key not in slot.barred and key not in slot.tried for key in slot.job.to
            )
        return bool(self.members) and len(slot.barred) >= len(self.members) and self.members.keys() <= slot.barred

    def _within_s(self) -> float:
        """How slow a provider may be to get a job now.

        While jobs are in flight at quicker ones, waiting for one of these is better than giving the last jobs of
        a run to the slowest machine; as long as the queue is long, that machine's help is welcome.
        """
        usual, in_flight = self.figures.usual(0.5), self.figures.in_flight
        if not in_flight or usual is None:
            return math.inf
        queue = (self.fresh.count + len(self.again)) * usual / in_flight
        # Ranks are times with factors of up to two and a half: see `Standing.rank`.
        return 4 * usual + queue

    def _seat_for_fresh(self, rng: random.Random, within_s: float, accept: Callable[[Seat], bool]) -> Seat | None:
        if self.seats.is_mixed and rng.random() < _TO_FAMILIAR:
            # Somebody new who turns out to be mute costs no more than a familiar one who is slower by so much.
            found = self._choose_familiar(rng, (), min(within_s, self.seats.soonest_s + self._ack_s), accept)
            if found is not None:
                return found
        return self.choose(rng, within_s=within_s, accept=accept)

    def _seat_for(self, slot: Slot, rng: random.Random, within_s: float, may: May) -> Seat | None:
        if slot.job.to:
            return self.first_of(slot.job.to, slot.tried | slot.barred, lambda seat: may(slot, seat.standing))
        known = slot.tried | slot.barred

        def first(seat: Seat) -> bool:
            # What met silence once is for somebody who was heard of: the silent ones are tried with other jobs.
            return not (slot.silences and seat.silent) and may(slot, seat.standing)

        # Among those who never said a word to us a hundred may be mute, and each would cost it a deadline.
        found = self._choose_familiar(rng, known, within_s, first) if slot.silences else None
        if found is None:
            found = self.choose(rng, known, within_s=within_s, accept=first)
        if found is None and not self.others_for(slot):
            # Nobody new is to be expected: one that failed once may do better now.
            found = self.choose(rng, slot.barred, within_s=within_s, accept=lambda seat: may(slot, seat.standing))
        return found

    def first_of(self, wanted: Iterable[str], without: Collection[str], may: Callable[[Seat], bool]) -> Seat | None:
        """The first of these that has room and may have it."""
        seats = (self.members.get(key) for key in wanted if key not in without)
        return next((seat for seat in seats if seat is not None and seat.step >= 0 and may(seat)), None)


def _accepts(may: May, slot: Slot, seat: Seat) -> bool:
    return may(slot, seat.standing)
