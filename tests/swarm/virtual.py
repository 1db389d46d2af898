"""`pylon bench swarm` in virtual time: the shipped deciders, and machines that take one job at a time.

What is left of a real run's time beside this one's is the machine that it ran on.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pylon.jobs.announcement import OfferedModel
from pylon.jobs.heartbeat import INTERVAL_S
from pylon.jobs.result import Finish
from pylon.money.accounts.usage import Usage
from pylon.provider.settings import ProviderSettings
from pylon.swarm.checks.checks import Checks
from pylon.swarm.checks.commands import Changed
from pylon.swarm.checks.reputation import SETTLED, Reputation, Seen
from pylon.swarm.circle import Circle
from pylon.swarm.dispatch.dispatcher import Dispatcher
from pylon.swarm.dispatch.messages import Acknowledged, CancelAttempt, Published, Send, SlotJob, Tick, Unheard
from pylon.swarm.flights import FIRST_LOOK_S, MOST_S, WORD_DUE_S
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.providers.directory import ProviderUp
from pylon.swarm.providers.listing import Listing, Need
from pylon.swarm.runs.coordinator import Coordinator
from pylon.swarm.runs.places import Fail, Fill, Unfill
from pylon.swarm.settings import CheckSettings, DispatchSettings
from pylon.swarm.upkeep import LOOK_S

JOB_S = 0.8
ROUNDS = 20
SLOWNESS = 10.0
HOP_S = 0.02
TICK_S = 0.1
WALL = 1_700_000_000.0
MODEL = OfferedModel("m", "ab" * 32)


@dataclass
class Machine:
    """One job at a time, the others wait."""

    key: str
    job_s: float
    alive: bool = True
    running: int | None = None
    queue: deque[int] = field(default_factory=deque)
    worked: list[int] = field(default_factory=list)


class Bench:
    """`slow` machines are ten times slower, `dying` ones fall silent in the middle, a share `lost` of pushes is lost.

    Whoever met the machines before has seen ten answers of each pass a check; `strangers` are met for the first time.
    """

    def __init__(
        self, providers: int = 64, *, slow: int = 0, dying: int = 0, lost: float = 0.0, seed: int = 1,
        strangers: bool = False, jobs: int | None = None,
    ) -> None:  # fmt: skip
        self.rng = random.Random(seed)
        self.now, self.lost = 0.0, lost
        self.machines = {f"p{n}": Machine(f"p{n}", JOB_S * (SLOWNESS if n < slow else 1.0)) for n in range(providers)}
        self.dying = list(self.machines.values())[providers - dying :]
        self.jobs = ROUNDS * providers if jobs is None else jobs
        self.places: dict[int, str] = {}
        self.failed: list[Fail] = []
        self.slots: dict[int, int] = {}
        self.sent = 0
        # Attempts of which no word came, and what of them only a relay's store has.
        self.unheard: set[int] = set()
        self.stored: dict[int, list[Callable[[], None]]] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._entered = 0
        self.reputation = Reputation()
        if not strangers:
            self._acquaint()
        rng = random.Random(seed + 1)
        self.checks = Checks(CheckSettings(), self.reputation, rng)
        self.coordinator = Coordinator(Dispatcher(DispatchSettings(), rng), self.checks, Circle())

    def _acquaint(self) -> None:
        for key in self.machines:
            for _ in range(SETTLED):
                self.reputation.note(key, Seen.PASSED, WALL)

    @property
    def ideal_s(self) -> float:
        """The least time in which these machines could have done it."""
        if self.dying:
            half = ROUNDS * JOB_S / 2
            left = self.jobs - half * len(self.machines) / JOB_S
            return half + left * JOB_S / (len(self.machines) - len(self.dying))
        return self.jobs / sum(1 / machine.job_s for machine in self.machines.values())

    def run(self) -> float:
        """Seconds of the whole run, as a multiple of the ideal."""
        for machine in self.machines.values():
            self._beat(machine, first=True)
        for machine in self.dying:
            self.after(ROUNDS * JOB_S / 2, lambda machine=machine: setattr(machine, "alive", False))
        run = self.coordinator.begin(lambda spec, slot: SlotJob(slot, Need(), 120.0, 3_600.0, 64, 32), self.jobs)
        specs = [(n, JobSpec(f"number {n}", max_tokens=32)) for n in range(self.jobs)]
        self._do(self.coordinator.ask(run, specs, 0.0, WALL))
        self._tick()
        while len(self.places) + len(self.failed) < self.jobs:
            self.now, _, happens = heapq.heappop(self._heap)
            happens()
        return self.now / self.ideal_s

    def after(self, seconds: float, happens: Callable[[], None]) -> None:
        self._entered += 1
        heapq.heappush(self._heap, (self.now + seconds, self._entered, happens))

    def _tick(self) -> None:
        self._tell(Tick())
        self.after(TICK_S, self._tick)

    def _beat(self, machine: Machine, *, first: bool = False) -> None:
        if machine.alive:
            self._list(machine)
            self.after(self.rng.uniform(0, INTERVAL_S) if first else INTERVAL_S, lambda: self._beat(machine))

    def _list(self, machine: Machine) -> None:
        width = self.reputation.width(machine.key, WALL + self.now)
        free = 0 if machine.running is not None else 1
        listing = Listing(
            machine.key, models=(MODEL,), slots=1, slots_free=free, queue_s=len(machine.queue) * machine.job_s,
            width=width, trust=self.reputation.trust(machine.key),
        )  # fmt: skip
        self._tell(ProviderUp(listing))

    def _tell(self, event: Any) -> None:
        self._do(self.coordinator.handle(event, self.now, WALL + self.now))

    def _do(self, commands: list[Any]) -> None:
        for command in commands:
            match command:
                case Send():
                    self._send(command)
                case CancelAttempt(_, attempt, provider):
                    self.after(2 * HOP_S, lambda a=attempt, p=provider: self._cancel(self.machines[p], a))
                case Fill(_, place, answer):
                    assert place not in self.places, "one answer for each place"
                    self.places[place] = answer.text
                case Unfill(_, place):
                    self.places.pop(place, None)
                case Fail():
                    self.failed.append(command)
                case Changed(provider):
                    self._list(self.machines[provider])

    def _send(self, send: Send) -> None:
        self.sent += 1
        self.slots[send.attempt] = send.slot
        self.unheard.add(send.attempt)
        self.after(HOP_S, lambda: self._tell(Published(send.attempt)))
        self._look_at(send.attempt, self.now + HOP_S, FIRST_LOOK_S)
        if self.rng.random() >= self.lost:
            self.after(2 * HOP_S, lambda: self._take(self.machines[send.provider], send.attempt))

    def _take(self, machine: Machine, attempt: int) -> None:
        if machine.alive:
            machine.queue.append(attempt)
            self.after(ProviderSettings().processing_after_s, lambda: self._still(machine, attempt))
            self._work(machine)

    def _still(self, machine: Machine, attempt: int) -> None:
        if machine.alive and (attempt in machine.queue or machine.running == attempt):
            self._say(attempt, lambda: self._tell(Acknowledged(attempt)))

    def _cancel(self, machine: Machine, attempt: int) -> None:
        if attempt in machine.queue:
            machine.queue.remove(attempt)
        elif machine.running == attempt:
            machine.running = None
            self._work(machine)

    def _work(self, machine: Machine) -> None:
        if not machine.alive or machine.running is not None or not machine.queue:
            return
        attempt = machine.running = machine.queue.popleft()
        machine.worked.append(attempt)
        self.after(machine.job_s, lambda: self._done(machine, attempt))

    def _done(self, machine: Machine, attempt: int) -> None:
        if not machine.alive or machine.running != attempt:
            return
        machine.running = None
        self._say(attempt, lambda: self._answered(machine, attempt))
        self._work(machine)

    def _say(self, attempt: int, heard: Callable[[], None]) -> None:
        if self.rng.random() < self.lost:
            self.after(HOP_S, lambda: self.stored.setdefault(attempt, []).append(heard))
        else:
            self.after(2 * HOP_S, lambda: self._hear(attempt, heard))

    def _hear(self, attempt: int, heard: Callable[[], None]) -> None:
        self.unheard.discard(attempt)
        heard()

    def _look_at(self, attempt: int, sent_at: float, wait: float) -> None:
        """What the push lost is found in the relay's store by the customer's next look."""
        looked_at = math.ceil((self.now + wait) / LOOK_S) * LOOK_S

        def look() -> None:
            if self.slots[attempt] not in self.coordinator.dispatcher._slots._slots:
                return
            for heard in self.stored.pop(attempt, []):
                self._hear(attempt, heard)
            if attempt in self.unheard and looked_at - sent_at >= WORD_DUE_S:
                self._tell(Unheard(attempt))
            self._look_at(attempt, sent_at, min(2 * wait, MOST_S))

        self.after(looked_at + 2 * HOP_S - self.now, look)

    def _answered(self, machine: Machine, attempt: int) -> None:
        slot = self.slots[attempt]
        try:
            text = f"the answer to {self.coordinator.pieces.spec_of(slot).prompt}"
        except KeyError:
            return
        names = (f"request-{attempt}", f"result-{attempt}")
        answer = Answer(
            text, machine.key, "m", MODEL.sha256, Usage(4, 8), Finish.STOP, 0, 800, 900, 1, *names
        )  # fmt: skip
        self._do(self.coordinator.answered(slot, attempt, answer, self.now, WALL + self.now))
