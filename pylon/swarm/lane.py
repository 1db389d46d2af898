"""Jobs of one need, and the providers that do for them."""

import math
import random
from collections import deque
from dataclasses import dataclass, field

from pylon.jobs.codes import ErrorCode
from pylon.swarm.candidates import Candidates, step
from pylon.swarm.listing import Need
from pylon.swarm.moves import Job
from pylon.swarm.pace import Recent
from pylon.swarm.standing import Standing

# Jobs that wait for somebody new must not make every decision as long as their queue.
_LOOKED_AT = 16


@dataclass(slots=True)
class Attempt:
    """One sending. `live` ends when it was answered, refused, or is no longer waited for."""

    id: int
    slot: "Slot"
    standing: Standing
    sent_at: float
    rounds: int
    hedge: bool
    live: bool = True
    published: bool = False
    acknowledged: bool = False


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
    refusals: int = 0
    final_refusals: int = 0
    send_failures: int = 0
    code: ErrorCode | None = None
    done: bool = False

    @property
    def live(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.live]


class Lane:
    """`members` do for the need and are alive, `awake` are those that do not rest, `candidates` have room too."""

    def __init__(self, need: Need, prompt_tokens: int, max_tokens: int, samples: int) -> None:
        self.need = need
        # The size of its first job stands for all: those of one run are alike, and only the order matters.
        self._prompt_tokens = prompt_tokens
        self._max_tokens = max_tokens
        self._samples = samples
        self.members: set[str] = set()
        self.awake: set[str] = set()
        self.candidates = Candidates()
        self.fresh: deque[Slot] = deque()
        self.again: deque[Slot] = deque()
        self.recent = Recent()
        self.open = 0
        self.in_flight = 0
        self.sent = 0
        self.hedged = 0
        self.empty_since = 0.0

    @property
    def waiting(self) -> bool:
        return bool(self.fresh or self.again)

    def place(self, standing: Standing, now: float) -> None:
        """Puts a provider where it now belongs."""
        key = standing.provider
        if key not in self.members or standing.rests(now):
            self.awake.discard(key)
            self.candidates.remove(key)
            return
        self.awake.add(key)
        if standing.has_room:
            self.candidates.put(key, step(standing.expected(self._prompt_tokens, self._max_tokens)))
        else:
            self.candidates.remove(key)

    def next_send(self, rng: random.Random) -> tuple[Slot, str] | None:
        """A slot that can be sent now, taken out of the queue, and the provider for it. Re-issued ones go first."""
        worst = self._worst()
        for _ in range(min(_LOOKED_AT, len(self.again))):
            slot = self.again.popleft()
            if slot.done:
                continue
            provider = self._provider_for(slot, rng, worst)
            if provider is not None:
                return slot, provider
            self.again.append(slot)
        while self.fresh:
            slot = self.fresh[0]
            if slot.done:
                self.fresh.popleft()
                continue
            provider = self.candidates.choose(rng, worst=worst)
            if provider is None:
                return None
            self.fresh.popleft()
            return slot, provider
        return None

    def usual(self, quantile: float) -> float | None:
        """Seconds that this share of answers came within, or None when too few have come."""
        return self.recent.quantile(quantile) if len(self.recent) >= self._samples else None

    def others_for(self, slot: Slot) -> bool:
        """Whether somebody who has not had this slot yet could take it, now or when there is room."""
        known = slot.tried | slot.barred | {attempt.standing.provider for attempt in slot.live}
        return len(self.awake) > sum(key in self.awake for key in known)

    def is_refused_by_all(self, slot: Slot) -> bool:
        """Whether everybody who is left has refused this slot for good."""
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
        return step(3 * usual + queue)

    def _provider_for(self, slot: Slot, rng: random.Random, worst: int) -> str | None:
        provider = self.candidates.choose(rng, slot.tried | slot.barred, worst=worst)
        if provider is None and not self.others_for(slot):
            # Nobody new is to be expected: one that failed once may do better now.
            provider = self.candidates.choose(rng, slot.barred, worst=worst)
        return provider
