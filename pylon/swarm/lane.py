"""Jobs of one need, and the providers that do for them."""

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from pylon.jobs.codes import ErrorCode
from pylon.swarm.candidates import Candidates, step
from pylon.swarm.listing import Need
from pylon.swarm.moves import Job
from pylon.swarm.pace import Recent
from pylon.swarm.standing import Standing
from pylon.swarm.waiting import Waiting

# Jobs that wait for somebody new must not make every decision as long as their queue.
_LOOKED_AT = 16
# Among the slowest is who is still out when so many times as many have come back.
STILL_OUT = 4


@dataclass(slots=True)
class Attempt:
    """One sending. `live` ends when it was answered, refused, or is no longer waited for."""

    id: int
    slot: "Slot"
    standing: Standing
    sent_at: float
    rounds: int
    hedge: bool
    cost: int = 0
    relay: str | None = None
    # How many answers its lane had had when it was sent.
    answered_before: int = 0
    live: bool = True
    published: bool = False
    acknowledged: bool = False

    @property
    def was_passed_over(self) -> bool:
        """Whether its provider had a word for a request that was sent later."""
        return self.standing.heard_of > self.sent_at


@dataclass(slots=True)
class Slot:
    """One job on its way. `tried` failed it before; `barred` would always refuse it."""

    job: Job
    lane: "Lane"
    ends_at: float
    queued_at: float
    attempts: list[Attempt] = field(default_factory=list)
    tried: set[str] = field(default_factory=set)
    barred: set[str] = field(default_factory=set)
    failures: int = 0
    silences: int = 0
    refusals: int = 0
    final_refusals: int = 0
    send_failures: int = 0
    code: ErrorCode | None = None
    done: bool = False

    @property
    def live(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.live]


class Lane:
    """`members` do for the need and are alive, `awake` are those that do not rest, `candidates` have room too.

    `silent` are those awake whose last request was met with silence.
    """

    def __init__(self, need: Need, prompt_tokens: int, max_tokens: int, samples: int, price_weight: float) -> None:
        self.need = need
        self._price_weight = price_weight
        # The size of its first job stands for all: those of one run are alike, and only the order matters.
        self._prompt_tokens = prompt_tokens
        self._max_tokens = max_tokens
        self._samples = samples
        self.members: set[str] = set()
        self.awake: set[str] = set()
        self.silent: set[str] = set()
        self.candidates = Candidates()
        self.fresh = Waiting()
        self.again: deque[Slot] = deque()
        self.recent = Recent()
        self.open = 0
        self.in_flight = 0
        self.sent = 0
        self.answered = 0
        self.hedged = 0
        self.empty_since = 0.0

    @property
    def waiting(self) -> bool:
        return bool(len(self.fresh) or self.again)

    @property
    def presses(self) -> bool:
        """Whether somebody idle has better to do than a second try: jobs wait that any provider may have."""
        return bool(len(self.fresh)) or any(not slot.job.to for slot in islice(self.again, _LOOKED_AT))

    def place(self, standing: Standing, now: float, lost: float) -> None:
        """Puts a provider where it now belongs. `lost` is the share of requests that never arrive."""
        key = standing.provider
        if key not in self.members or standing.rests(now):
            self.awake.discard(key)
            self.silent.discard(key)
            self.candidates.remove(key)
            return
        self.awake.add(key)
        if standing.silences:
            self.silent.add(key)
        else:
            self.silent.discard(key)
        if standing.has_room(lost):
            rank = standing.rank(self.need, self._prompt_tokens, self._max_tokens, self._price_weight)
            self.candidates.put(key, step(rank))
        else:
            self.candidates.remove(key)

    @property
    def priority(self) -> int:
        """The highest of those that wait."""
        again = (slot.job.priority for slot in islice(self.again, _LOOKED_AT))
        return max(again, default=self.fresh.priority or 0)

    def next_send(self, rng: random.Random, may: "May") -> tuple[Slot, str] | None:
        """A slot that can be sent now, taken out of the queue, and the provider for it. Re-issued ones go first.

        `may` says whether this slot may go to that provider just now.
        """
        worst = self._worst()
        for _ in range(min(_LOOKED_AT, len(self.again))):
            slot = self.again.popleft()
            if slot.done:
                continue
            provider = self._provider_for(slot, rng, worst, may)
            if provider is not None:
                return slot, provider
            self.again.append(slot)
        slot_or_none = self.fresh.first()
        if slot_or_none is None:
            return None
        provider = self.candidates.choose(rng, worst=worst, accept=lambda key: may(slot_or_none, key))
        if provider is None:
            return None
        self.fresh.pop()
        return slot_or_none, provider

    def usual(self, quantile: float) -> float | None:
        """Seconds that this share of answers came within, or None when too few have come."""
        return self.recent.quantile(quantile) if len(self.recent) >= self._samples else None

    def is_among_the_last(self, attempt: Attempt) -> bool:
        """Whether it is one of the slowest few: of those out together with it, most have come back since.

        While most are still out the whole swarm is slow, or the way there, and asking twice makes it slower. Of a
        handful each may be hedged.
        """
        return self.answered - attempt.answered_before + self._samples >= STILL_OUT * self.in_flight

    def others_for(self, slot: Slot) -> bool:
        """Whether somebody who has not had this slot yet could take it, now or when there is room."""
        known = slot.tried | slot.barred | {attempt.standing.provider for attempt in slot.live}
        if slot.job.to:
            return any(key in self.awake and key not in known for key in slot.job.to)
        if slot.silences:
            return len(self.awake) - len(self.silent) > sum(
                key in self.awake and key not in self.silent for key in known
            )
        return len(self.awake) > sum(key in self.awake for key in known)

    def is_refused_by_all(self, slot: Slot) -> bool:
        """Whether everybody who is left has refused this slot for good."""
        if slot.job.to:
            return not any(
                key in self.members and key not in slot.barred and key not in slot.tried for key in slot.job.to
            )
        return bool(self.members) and len(slot.barred) >= len(self.members) and self.members <= slot.barred

    def _worst(self) -> int:
        """How slow a provider may be to get a job now.

        While jobs are in flight at quicker ones, waiting for one of these is better than giving the last jobs of
        a run to the slowest machine; as long as the queue is long, that machine's help is welcome.
        """
        usual = self.usual(0.5)
        if not self.in_flight or usual is None:
            return step(math.inf)
        queue = (len(self.fresh) + len(self.again)) * usual / self.in_flight
        # Ranks are times with factors of up to two and a half: see `Standing.rank`.
        return step(4 * usual + queue)

    def _provider_for(self, slot: Slot, rng: random.Random, worst: int, may: "May") -> str | None:
        if slot.job.to:
            return next((key for key in slot.job.to if self._can(key, slot) and may(slot, key)), None)
        known = slot.tried | slot.barred

        def first(key: str) -> bool:
            # What met silence once is for somebody who was heard of: the silent ones are tried with other jobs.
            return not (slot.silences and key in self.silent) and may(slot, key)

        provider = self.candidates.choose(rng, known, worst=worst, accept=first)
        if provider is None and not self.others_for(slot):
            # Nobody new is to be expected: one that failed once may do better now.
            provider = self.candidates.choose(rng, slot.barred, worst=worst, accept=lambda key: may(slot, key))
        return provider

    def _can(self, key: str, slot: Slot) -> bool:
        return key in self.candidates and key not in slot.tried and key not in slot.barred


type May = Callable[[Slot, str], bool]
