"""Slots from the job to its outcome: exactly one `Deliver` or `GiveUp` each."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pylon.swarm.dispatch import messages as m
from pylon.swarm.dispatch.in_flight import InFlight
from pylon.swarm.dispatch.lane import Lane
from pylon.swarm.dispatch.roster import Roster
from pylon.swarm.dispatch.slot import Attempt, Slot
from pylon.swarm.dispatch.timers import Timers
from pylon.swarm.settings import DispatchSettings

SEND_FAILURES = 3
# A code that is the same everywhere is believed when two say it: one liar must not be able to end a job.
FINAL_REFUSALS = 2


@dataclass(slots=True, eq=False)
class _End:
    """When these slots are over, as far as nothing else was said since."""

    slots: Sequence[Slot]
    when: float

    @property
    def live(self) -> bool:
        return any(not slot.done and slot.ends_at == self.when for slot in self.slots)

    def is_of(self, slot: Slot) -> bool:
        return not slot.done and slot.ends_at == self.when


@dataclass(slots=True, eq=False)
class _Look:
    """A look at what waits in a lane, to give up for this reason what waited too long; an earlier one replaces it."""

    lane: Lane
    failure: m.Failure
    when: float

    @property
    def live(self) -> bool:
        return self.lane.looks[self.failure] == self.when


class OpenSlots:
    """Commands are appended to `out`."""

    def __init__(
        self,
        settings: DispatchSettings,
        roster: Roster,
        in_flight: InFlight,
        timers: Timers,
        out: list[m.DispatchCommand],
    ) -> None:
        self._settings = settings
        self._roster = roster
        self._in_flight = in_flight
        self._timers = timers
        self._out = out
        self._slots: dict[int, Slot] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, jobs: tuple[m.SlotJob, ...], now: float) -> None:
        """More jobs, which wait now."""
        lanes: dict[Lane, None] = {}
        lane = None
        ends: dict[float, list[Slot]] = {}
        for job in jobs:
            # To find a lane costs more than to see that it is the last one's: jobs of a run are alike.
            if lane is None or (lane.need is not job.need and lane.need != job.need):
                lane = self._roster.lane(job, now)
                lanes[lane] = None
            slot = self._open(job, lane, now)
            ends.setdefault(job.deadline, []).append(slot)
            # One that is for some only is looked at by itself, as those are that were sent before.
            if job.to or job.without:
                lane.again.append(slot)
            else:
                lane.fresh.put(slot)
        for deadline, slots in ends.items():
            self._end_at(slots, deadline)
        for lane in lanes:
            if not lane.members:
                self.look_for_nobody(lane, now)

    def adopt(self, job: m.SlotJob, provider: str, cost: int, now: float, *, taken_back: bool) -> None:
        """A job that an earlier process sent to this provider, who may charge so many msat for it. See `Adopt`."""
        slot = self._open(job, self._roster.lane(job, now), now)
        standing = self._roster.remember(provider)
        self._end_at((slot,), job.deadline)
        attempt = self._in_flight.begin(slot, standing, now, cost=cost)
        attempt.published = attempt.adopted = True
        attempt.taken_back = taken_back

    def drop(self, slots: Sequence[int], failure: m.Failure, now: float) -> None:
        """Gives up those of them that are open."""
        for number in slots:
            if (slot := self._slots.get(number)) is not None:
                self.give_up(slot, failure, now)

    def forget(self, run: int, slots: Sequence[int], now: float) -> None:
        """All slots of a run end, and nobody is told."""
        lanes: dict[Lane, None] = {}
        for number in slots:
            if (slot := self._slots.get(number)) is not None:
                self._finish(slot, now)
                lanes[slot.lane] = None
        for lane in lanes:
            lane.fresh.forget(run)

    def sent(self, slot: Slot, now: float) -> None:
        """It goes out for the first time: from now on its own time runs."""
        slot.expires_at = min(slot.job.deadline, now + slot.job.timeout)
        self._end_at((slot,), min(slot.ends_at, slot.expires_at))

    def bound(self, number: int, when: float) -> None:
        """The slot ends then, if not before."""
        slot = self._slots.get(number)
        if slot is not None and when < slot.ends_at:
            self._end_at((slot,), when)

    def deliver(self, attempt: Attempt, now: float) -> None:
        """The attempt's answer fills its slot."""
        slot = attempt.slot
        self._finish(slot, now)
        self._out.append(m.Deliver(slot.job.slot, attempt.id, len(slot.attempts)))

    def give_up(self, slot: Slot, failure: m.Failure, now: float) -> None:
        """The slot stays empty."""
        self._finish(slot, now)
        code = slot.code
        if slot.unpaid and failure in (m.Failure.REFUSED, m.Failure.EXHAUSTED):
            failure, code = m.Failure.UNPAID, None
        elif slot.too_large and failure is m.Failure.REFUSED and code is None:
            failure = m.Failure.TOO_LARGE
        self._out.append(m.GiveUp(slot.job.slot, failure, code, len(slot.attempts)))

    def again(self, slot: Slot, now: float) -> None:
        """The slot's attempt came to nothing: into the queue again, unless another one is still on its way."""
        if slot.live:
            return
        rules = self._settings
        if slot.failures >= rules.attempts or slot.refusals >= rules.refusals or slot.silences >= rules.silences:
            self.give_up(slot, m.Failure.EXHAUSTED, now)
        elif slot.final_refusals >= FINAL_REFUSALS:
            self.give_up(slot, m.Failure.REFUSED, now)
        elif slot.send_failures >= SEND_FAILURES:
            self.give_up(slot, m.Failure.NOT_SENT, now)
        else:
            slot.queued_at = now
            slot.lane.again.append(slot)
            if not slot.lane.members:
                self.look_for_nobody(slot.lane, now)

    def look_for_nobody(self, lane: Lane, now: float) -> None:
        """Nobody is there who could; if nobody comes, what waits is given up."""
        self._look_at(lane, m.Failure.NO_PROVIDER, now + lane.least_wait_s)

    def look_for_words(self, attempt: Attempt, now: float) -> None:
        """It met silence. If nobody has a word for anything as long as a job has time, what waits is given up."""
        lane = attempt.slot.lane
        lane.unheard_since = min(lane.unheard_since, attempt.sent_at)
        self._look_at(lane, m.Failure.UNHEARD, now + attempt.slot.job.timeout)

    def _look_at(self, lane: Lane, failure: m.Failure, when: float) -> None:
        # One for all that waits: each look is as long as the queue.
        if when < lane.looks[failure]:
            lane.looks[failure] = when
            self._timers.at(when, self._look, _Look(lane, failure, when))

    def _look(self, look: _Look, now: float) -> None:
        lane, failure = look.lane, look.failure
        lane.looks[failure] = math.inf
        if failure is m.Failure.NO_PROVIDER:
            since, patience = math.inf if lane.members else lane.empty_since, self._patience
        else:
            since, patience = lane.unheard_since, _timeout
        if since == math.inf:
            return
        over = ((slot, max(since, slot.queued_at) + patience(slot.job)) for slot in lane.slots())
        self._look_at(lane, failure, self._give_up_all(over, failure, now))

    def _patience(self, job: m.SlotJob) -> float:
        """How long a job waits for anybody to come: no longer than it has time."""
        # In whole seconds, so that a run whose jobs all have another time is looked at a few times only.
        return min(self._settings.patience_s, math.ceil(job.timeout))

    def _give_up_all(self, over: Iterable[tuple[Slot, float]], failure: m.Failure, now: float) -> float:
        """Gives up those slots whose time is over; when the next one's is."""
        following = math.inf
        for slot, when in over:
            if when <= now:
                self.give_up(slot, failure, now)
            else:
                following = min(following, when)
        return following

    def _open(self, job: m.SlotJob, lane: Lane, now: float) -> Slot:
        slot = self._slots[job.slot] = Slot(job, lane, job.deadline, job.deadline, now, barred=job.without)
        lane.figures.open += 1
        lane.least_wait_s = min(lane.least_wait_s, self._patience(job))
        return slot

    def _end_at(self, slots: Sequence[Slot], when: float) -> None:
        """One timer for all of them: jobs of a run share their deadline, and there may be a million."""
        for slot in slots:
            slot.ends_at = when
        self._timers.at(when, self._ended, _End(slots, when))

    def _ended(self, end: "_End", now: float) -> None:
        for slot in end.slots:
            if end.is_of(slot):
                unheard = slot.silences and not any(attempt.acknowledged for attempt in slot.attempts)
                self.give_up(slot, m.Failure.UNHEARD if unheard else m.Failure.DEADLINE, now)

    def _finish(self, slot: Slot, now: float) -> None:
        slot.done = True
        slot.lane.figures.open -= 1
        del self._slots[slot.job.slot]
        self._in_flight.over(slot, now)


def _timeout(job: m.SlotJob) -> float:
    return job.timeout
