"""Open slots: made for each job, and ended by exactly one `Deliver` or `GiveUp`, or silently with a forgotten run."""

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

# From so many failed sendings on a slot is given up.
SEND_FAILURES = 3
# A refusal that would be the same everywhere is believed from two providers: one liar must not be able to end a job.
FINAL_REFUSALS = 2
# While jobs wait for a provider that loads its model, it is looked whether it still does: each time at all providers.
_LOADING_LOOK_S = 1.0


@dataclass(slots=True, eq=False)
class _End:
    """The common end of some slots; it holds for those whose `ends_at` has not been changed since."""

    slots: Sequence[Slot]
    when: float

    @property
    def live(self) -> bool:
        return any(map(self.is_of, self.slots))

    def is_of(self, slot: Slot) -> bool:
        return not slot.done and slot.ends_at == self.when


@dataclass(slots=True, eq=False)
class _Look:
    """A planned look at the waiting jobs of a lane, to give up with `failure` those that waited too long.

    Planning an earlier one of the same kind makes it void.
    """

    lane: Lane
    failure: m.Failure
    when: float

    @property
    def live(self) -> bool:
        return self.lane.looks[self.failure] == self.when


class OpenSlots:
    """See the module. Commands are appended to `out`."""

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
        """Opens a slot for each of these jobs, and queues it in the lane of its need."""
        lanes: dict[Lane, None] = {}
        lane = None
        ends: dict[float, list[Slot]] = {}
        for job in jobs:
            # Jobs of a run are alike, and comparing with the last need is cheaper than finding the lane.
            if lane is None or (lane.need is not job.need and lane.need != job.need):
                lane = self._roster.lane(job, now)
                lanes[lane] = None
            slot = self._open(job, lane, now)
            ends.setdefault(job.deadline, []).append(slot)
            # A job for certain providers only is looked at by itself, as jobs to be sent again are.
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
        """Opens a slot for a job that an earlier process sent to this provider. `cost` is in msat. See `Adopt`."""
        slot = self._open(job, self._roster.lane(job, now), now)
        standing = self._roster.remember(provider)
        self._end_at((slot,), job.deadline)
        attempt = self._in_flight.begin(slot, standing, now, cost=cost)
        attempt.published = attempt.adopted = True
        attempt.taken_back = taken_back

    def drop(self, slots: Sequence[int], failure: m.Failure, now: float) -> None:
        """Gives up those of these slots that are open."""
        for number in slots:
            if (slot := self._slots.get(number)) is not None:
                self.give_up(slot, failure, now)

    def forget(self, run: int, slots: Sequence[int], now: float) -> None:
        """Ends all slots of a run, without a command for any of them."""
        lanes: dict[Lane, None] = {}
        for number in slots:
            if (slot := self._slots.get(number)) is not None:
                self._finish(slot, now)
                lanes[slot.lane] = None
        for lane in lanes:
            lane.fresh.forget(run)

    def sent(self, slot: Slot, now: float) -> None:
        """The slot is sent for the first time: its timeout begins."""
        slot.expires_at = min(slot.job.deadline, now + slot.job.timeout)
        # Most often the deadline of its run comes first, whose timer the slots of that run share.
        if slot.expires_at < slot.ends_at:
            self._end_at((slot,), slot.expires_at)

    def bound(self, number: int, when: float) -> None:
        """The slot ends at `when` at the latest."""
        slot = self._slots.get(number)
        if slot is not None and when < slot.ends_at:
            self._end_at((slot,), when)

    def deliver(self, attempt: Attempt, now: float) -> None:
        """Ends a slot with the answer of this attempt."""
        slot = attempt.slot
        self._finish(slot, now)
        self._out.append(m.Deliver(slot.job.slot, attempt.id, len(slot.attempts)))

    def give_up(self, slot: Slot, failure: m.Failure, now: float) -> None:
        """Ends a slot without an answer."""
        self._finish(slot, now)
        code = slot.code
        if slot.unpaid and failure in (m.Failure.REFUSED, m.Failure.EXHAUSTED):
            failure, code = m.Failure.UNPAID, None
        elif slot.too_large and failure is m.Failure.REFUSED and code is None:
            failure = m.Failure.TOO_LARGE
        self._out.append(m.GiveUp(slot.job.slot, failure, code, len(slot.attempts)))

    def again(self, slot: Slot, now: float) -> None:
        """Queues a slot again after an attempt failed, unless another is in flight, or gives it up after too many."""
        if slot.live:
            return
        if self._is_exhausted(slot):
            self.give_up(slot, m.Failure.EXHAUSTED, now)
        elif slot.final_refusals >= FINAL_REFUSALS:
            self.give_up(slot, m.Failure.REFUSED, now)
        elif slot.send_failures >= SEND_FAILURES:
            self.give_up(slot, m.Failure.UNCONFIRMED if slot.unconfirmed else m.Failure.NOT_SENT, now)
        else:
            slot.queued_at = now
            slot.on_last_try = self._is_exhausted(slot, 1) or slot.final_refusals + 1 >= FINAL_REFUSALS
            slot.lane.again.append(slot)
            if not slot.lane.members:
                self.look_for_nobody(slot.lane, now)

    def _is_exhausted(self, slot: Slot, more: int = 0) -> bool:
        """Whether as many attempts of a kind have failed as may, or would have with so many more of that kind."""
        rules = self._settings
        return (
            slot.failures + more >= rules.attempts
            or slot.refusals + more >= rules.refusals
            or slot.silences + more >= rules.silences
        )

    def look_for_nobody(self, lane: Lane, now: float) -> None:
        """The lane has no member: if none comes in time, its waiting jobs are given up."""
        self._look_at(lane, m.Failure.NO_PROVIDER, now + lane.least_wait_s)

    def look_for_words(self, attempt: Attempt, now: float) -> None:
        """An attempt met silence.

        If no provider of its lane says anything for as long as a job's timeout, the waiting jobs are given up.
        """
        lane = attempt.slot.lane
        lane.unheard_since = min(lane.unheard_since, attempt.sent_at)
        self._look_at(lane, m.Failure.UNHEARD, now + attempt.slot.job.timeout)

    def _look_at(self, lane: Lane, failure: m.Failure, when: float) -> None:
        # One look for all waiting jobs, since each goes through the whole queue.
        if when < lane.looks[failure]:
            lane.looks[failure] = when
            self._timers.at(when, self._look, _Look(lane, failure, when))

    def _look(self, look: _Look, now: float) -> None:
        lane, failure = look.lane, look.failure
        lane.looks[failure] = math.inf
        again_at = math.inf
        if failure is m.Failure.NO_PROVIDER:
            since, patience = math.inf if lane.members else lane.empty_since, self._patience
            if since < math.inf and self._roster.any_loads_for(lane.need):
                # They may be gone before their models are there.
                patience, again_at = _timeout, now + max(_LOADING_LOOK_S, self._settings.patience_s)
        else:
            since, patience = lane.unheard_since, _timeout
        if since == math.inf:
            return
        over = ((slot, max(since, slot.queued_at) + patience(slot.job)) for slot in lane.slots())
        following = self._give_up_all(over, failure, now)
        if following < math.inf:
            self._look_at(lane, failure, min(following, again_at))

    def _patience(self, job: m.SlotJob) -> float:
        """Seconds that a job waits for a provider to appear: `patience_s`, but no longer than its timeout.

        Where one that could take it says that it is loading its model, the job waits for as long as its timeout.
        """
        # In whole seconds, so that a run whose jobs all have different timeouts is looked at a few times only.
        return min(self._settings.patience_s, math.ceil(job.timeout))

    def _give_up_all(self, over: Iterable[tuple[Slot, float]], failure: m.Failure, now: float) -> float:
        """Gives up those slots whose time (second in the pair) is over; returns the time of the next, or infinity."""
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
        """Sets the end of these slots, with one timer for all: jobs of a run share their deadline, up to a
        million."""
        for slot in slots:
            slot.ends_at = when
        self._timers.at(when, self._ended, _End(slots, when))

    def _ended(self, end: _End, now: float) -> None:
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
