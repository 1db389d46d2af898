"""Who gets which job, and what is done when nothing comes back: events in, commands out, no socket and no clock.

    dispatcher = Dispatcher(DispatchSettings(), random.Random())
    for command in dispatcher.handle(Add(jobs), now): …

Every slot ends with exactly one `Deliver` or `GiveUp`. The cost of a decision does not grow with the number of
providers: they are kept in order of expected completion (`company`), and every deadline is in one heap (`timers`).
"""

import random
from collections.abc import Callable, Sequence

from pylon.jobs.codes import ErrorCode
from pylon.swarm import moves as m
from pylon.swarm.budget import Budgets
from pylon.swarm.company import Company
from pylon.swarm.directory import ProviderDown, ProviderUp
from pylon.swarm.lane import Attempt, Lane, Slot
from pylon.swarm.listing import Need
from pylon.swarm.room import RelayRoom
from pylon.swarm.settings import DispatchSettings
from pylon.swarm.silence import Silence
from pylon.swarm.standing import Standing
from pylon.swarm.timers import Timers

SEND_FAILURES = 3
# A code that is the same everywhere is believed when two say it: one liar must not be able to end a job.
FINAL_REFUSALS = 2
HEDGE_AFTER_S = 0.25
HEDGE_QUANTILE = 0.9
HEDGE_FACTOR = 1.5
# What relays lost so often is sent to two at once, when somebody is idle.
UNLUCKY = 2

_BUSY = frozenset({ErrorCode.BUSY, ErrorCode.PAUSED, ErrorCode.CUSTOMER_LIMIT, ErrorCode.CREDIT_EXHAUSTED})
_FAULTS = frozenset({ErrorCode.ENGINE_FAILED, None})


class Dispatcher:
    """See the module. `relays` are the customer's; without them requests are not counted by relay."""

    def __init__(self, settings: DispatchSettings, rng: random.Random, relays: Sequence[str] = ()) -> None:
        self._settings = settings
        self._room = RelayRoom(relays, settings.relay_width)
        self._budgets = Budgets()
        self._silence = Silence()
        # The slot that would have gone out, had its run had the money.
        self._short: Slot | None = None
        self._rng = rng
        self._company = Company(settings, rng, self._silence, self._look_for_nobody)
        self._timers = Timers()
        self._slots: dict[int, Slot] = {}
        self._attempts: dict[int, Attempt] = {}
        self.last_attempt = 0
        self._out: list[m.Command] = []
        self.in_flight = 0

    @property
    def open(self) -> int:
        """Slots without an outcome."""
        return len(self._slots)

    def next_due(self) -> float | None:
        """When the next `Tick` can matter at the earliest."""
        return self._timers.first

    def budget_left(self, run: int) -> int | None:
        """What a run may still reserve, in msat; None without a limit."""
        return self._budgets.left(run)

    def is_live(self, attempt: int) -> bool:
        """Whether this attempt is still to be made or waited for."""
        found = self._attempts.get(attempt)
        return found is not None and found.live

    def handle(self, event: m.SwarmEvent, now: float) -> list[m.Command]:
        """What follows from the event. Events about slots and attempts that are over change nothing."""
        self._out = []
        match event:
            case ProviderUp(listing):
                self._company.up(listing, self._room.shared(listing.relays), now)
            case ProviderDown(provider):
                self._company.down(provider, now)
            case m.Add(jobs):
                self._add(jobs, now)
            case m.Adopt(job, provider, cost):
                self._adopt(job, provider, cost, now)
            case m.Fund(run, msat):
                self._budgets.fund(run, msat)
            case m.Drop(slots, failure):
                for slot in slots:
                    if slot in self._slots:
                        self._give_up(self._slots[slot], failure, now)
            case m.Published(attempt):
                self._on(attempt, self._published, now)
            case m.SendFailed(attempt):
                self._on(attempt, self._send_failed, now)
            case m.Acknowledged(attempt):
                self._on(attempt, self._acknowledged, now)
            case m.Unheard(attempt):
                self._on(attempt, self._unheard, now)
            case m.Answered(attempt, charged):
                self._on(attempt, lambda found, at: self._answered(found, charged, at), now)
            case m.Refused(attempt, code):
                self._on(attempt, lambda found, at: self._refused(found, code, at), now)
            case m.Tick():
                pass
        self._timers.run(now)
        self._fill(now)
        out, self._out = self._out, []
        return out

    # --- slots ------------------------------------------------------------------------------------------------

    def _add(self, jobs: tuple[m.Job, ...], now: float) -> None:
        lanes: dict[Need, Lane] = {}
        ends: dict[float, list[Slot]] = {}
        for job in jobs:
            slot = self._open(job, now)
            ends.setdefault(job.deadline, []).append(slot)
            lanes[job.need] = slot.lane
            # One that is for some only is looked at by itself, as those are that were sent before.
            if job.to or job.without:
                slot.lane.again.append(slot)
            else:
                slot.lane.fresh.put(slot)
        for deadline, slots in ends.items():
            self._end_at(slots, deadline)
        for lane in lanes.values():
            if not lane.members:
                self._look_for_nobody(lane, now)

    def _open(self, job: m.Job, now: float) -> Slot:
        lane = self._company.lane(job, now)
        slot = self._slots[job.slot] = Slot(job, lane, job.deadline, now, barred=set(job.without))
        lane.open += 1
        return slot

    def _adopt(self, job: m.Job, provider: str, cost: int, now: float) -> None:
        slot, standing = self._open(job, now), self._company.remember(provider)
        self._end_at([slot], job.deadline)
        attempt = self._send(slot, standing, now, hedge=False, cost=cost)
        attempt.published = attempt.acknowledged = True

    def _look_for_nobody(self, lane: Lane, now: float) -> None:
        self._timers.at(now + self._settings.patience_s, lambda at: self._nobody(lane, at), lambda: not lane.members)

    def _nobody(self, lane: Lane, now: float) -> None:
        if lane.members or lane.empty_since + self._settings.patience_s > now:
            return
        for slot in (*lane.again, *lane.fresh.slots()):
            if not slot.done and slot.queued_at + self._settings.patience_s <= now:
                self._give_up(slot, m.Failure.NO_PROVIDER, now)

    def _end_at(self, slots: Sequence[Slot], when: float) -> None:
        """One timer for all of them: jobs of a run share their deadline, and there may be a million."""

        def end(now: float) -> None:
            for slot in slots:
                if not slot.done and slot.ends_at == when:
                    self._give_up(slot, m.Failure.DEADLINE, now)

        for slot in slots:
            slot.ends_at = when
        self._timers.at(when, end, lambda: any(not slot.done and slot.ends_at == when for slot in slots))

    def _give_up(self, slot: Slot, failure: m.Failure, now: float) -> None:
        self._finish(slot, now)
        self._out.append(m.GiveUp(slot.job.slot, failure, slot.code, len(slot.attempts)))

    def _finish(self, slot: Slot, now: float) -> None:
        slot.done = True
        slot.lane.open -= 1
        del self._slots[slot.job.slot]
        for attempt in slot.attempts:
            if attempt.live:
                self._release(attempt, now)
                self._cancel(attempt)
            del self._attempts[attempt.id]

    def _again(self, slot: Slot, now: float) -> None:
        """The slot's attempt came to nothing: into the queue again, unless another one is still on its way."""
        if slot.live:
            return
        rules = self._settings
        if slot.failures >= rules.attempts or slot.refusals >= rules.refusals or slot.silences >= rules.silences:
            self._give_up(slot, m.Failure.EXHAUSTED, now)
        elif slot.final_refusals >= FINAL_REFUSALS:
            self._give_up(slot, m.Failure.REFUSED, now)
        elif slot.send_failures >= SEND_FAILURES:
            self._give_up(slot, m.Failure.NOT_SENT, now)
        else:
            slot.queued_at = now
            slot.lane.again.append(slot)
            if not slot.lane.members:
                self._look_for_nobody(slot.lane, now)

    # --- sending ----------------------------------------------------------------------------------------------

    def _fill(self, now: float) -> None:
        for priority in self._priorities():
            idle = 0
            while idle < len(self._company.turns) and self.in_flight < self._settings.width:
                lane = self._company.turns[0]
                self._company.turns.rotate(-1)
                idle += 1
                if lane.waiting and lane.priority >= priority and self._one_of(lane, now):
                    idle = 0

    def _priorities(self) -> list[int]:
        """Those that wait, the highest first."""
        return sorted({lane.priority for lane in self._company.turns if lane.waiting}, reverse=True)

    def _one_of(self, lane: Lane, now: float) -> bool:
        """Sends a job of this lane or gives one up; whether there was one."""
        self._short = None
        found = lane.next_send(self._rng, self._may)
        if found is not None:
            slot, provider = found
            self._out.append(self._sending(self._send(slot, self._company[provider], now, hedge=False)))
            return True
        if lane.again and not lane.again[0].done and lane.is_refused_by_all(lane.again[0]):
            self._give_up(lane.again.popleft(), m.Failure.REFUSED, now)
            return True
        if self._short is not None and not self._short.done and not self._budgets.reserved(self._short.job.run):
            # Nothing that is out could still give money back.
            self._give_up(self._short, m.Failure.BUDGET, now)
            return True
        return False

    def _may(self, slot: Slot, provider: str) -> bool:
        standing = self._company[provider]
        if not self._room.has(standing.relays):
            return False
        if self._budgets.affords(slot.job.run, standing.quote(slot.job.prompt_tokens, slot.job.max_tokens)):
            return True
        self._short = slot
        return False

    def _send(self, slot: Slot, standing: Standing, now: float, *, hedge: bool, cost: int | None = None) -> Attempt:
        job = slot.job
        if not slot.attempts:
            self._end_at([slot], min(job.deadline, now + job.timeout))
        self.last_attempt += 1
        attempt = Attempt(self.last_attempt, slot, standing, now, standing.rounds, hedge)
        attempt.cost = standing.quote(job.prompt_tokens, job.max_tokens) if cost is None else cost
        attempt.relay = self._room.take(standing.relays)
        attempt.answered_before = slot.lane.answered
        self._budgets.reserve(job.run, attempt.cost)
        self._attempts[attempt.id] = attempt
        slot.attempts.append(attempt)
        slot.lane.sent += 1
        slot.lane.in_flight += 1
        slot.lane.hedged += hedge
        standing.in_flight += 1
        self.in_flight += 1
        self._company.place(standing, now)
        self._watch(attempt, now + self._settings.answer_s, self._unanswered)
        return attempt

    def _sending(self, attempt: Attempt) -> m.Send:
        slot, provider = attempt.slot, attempt.standing.provider
        return m.Send(slot.job.slot, attempt.id, provider, slot.ends_at, attempt.hedge, attempt.relay)

    def _release(self, attempt: Attempt, now: float, charged: int | None = None) -> None:
        """It is not waited for any more. Without a charge it counts as all that it could cost."""
        attempt.live = False
        self._room.free(attempt.relay)
        self._budgets.settle(attempt.slot.job.run, attempt.cost, attempt.cost if charged is None else charged)
        attempt.standing.in_flight -= 1
        attempt.slot.lane.in_flight -= 1
        self.in_flight -= 1
        self._company.place(attempt.standing, now)

    def _cancel(self, attempt: Attempt) -> None:
        self._out.append(m.CancelAttempt(attempt.slot.job.slot, attempt.id, attempt.standing.provider))

    # --- what became of an attempt ----------------------------------------------------------------------------

    def _on(self, number: int, then: Callable[[Attempt, float], None], now: float) -> None:
        attempt = self._attempts.get(number)
        if attempt is not None:
            then(attempt, now)

    def _published(self, attempt: Attempt, now: float) -> None:
        if not attempt.live or attempt.published:
            return
        attempt.published = True
        attempt.sent_at = now
        self._watch(attempt, now + self._settings.ack_s, self._unacknowledged)
        if self._settings.hedge_share > 0:
            self._watch(attempt, now + HEDGE_AFTER_S, self._consider_hedge)

    def _send_failed(self, attempt: Attempt, now: float) -> None:
        if attempt.live and not attempt.published:
            self._release(attempt, now, 0)
            attempt.slot.send_failures += 1
            self._again(attempt.slot, now)

    def _answered(self, attempt: Attempt, charged: int | None, now: float) -> None:
        # One that was given up as too slow is as good as any while the slot is empty.
        slot, standing = attempt.slot, attempt.standing
        seconds = max(0.0, now - attempt.sent_at) / attempt.rounds
        self._heard(attempt, now)
        standing.answered(seconds)
        slot.lane.recent.add(seconds)
        slot.lane.answered += 1
        if attempt.live:
            self._release(attempt, now, charged)
        else:
            self._company.place(standing, now)
        self._finish(slot, now)
        self._out.append(m.Deliver(slot.job.slot, attempt.id, len(slot.attempts)))

    def _refused(self, attempt: Attempt, code: ErrorCode | None, now: float) -> None:
        if not attempt.live:
            return
        slot, standing = attempt.slot, attempt.standing
        self._heard(attempt, now)
        # An answer that cannot be read, or that was no good, may have been charged.
        self._release(attempt, now, None if code is None else 0)
        slot.code = code or slot.code
        if code in _BUSY:
            standing.was_busy(now)
            slot.refusals += 1
        elif code in _FAULTS:
            standing.missed(now, 0.0)
            slot.tried.add(standing.provider)
            slot.failures += 1
        else:
            standing.refused(now)
            slot.barred.add(standing.provider)
            slot.refusals += 1
            slot.final_refusals += code is not None and not code.elsewhere
            if code is ErrorCode.UNSUPPORTED_MODEL and slot.job.need.model is not None:
                standing.refused_models.add(slot.job.need.model)
                self._company.join(slot.lane, standing, now)
        self._rested(standing, now)
        self._again(slot, now)

    def _acknowledged(self, attempt: Attempt, now: float) -> None:
        self._heard(attempt, now)
        attempt.acknowledged = True

    def _heard(self, attempt: Attempt, now: float) -> None:
        """A word came: neither the request nor its provider is lost."""
        if attempt.live and not attempt.acknowledged:
            self._silence.saw(False)
        attempt.standing.heard_of = max(attempt.standing.heard_of, attempt.sent_at)
        if attempt.standing.silences:
            attempt.standing.silences = 0
            self._company.place(attempt.standing, now)

    def _unacknowledged(self, attempt: Attempt, now: float) -> None:
        """Nothing was heard. The request may be lost: that is no failure of its provider, and others are asked."""
        if attempt.acknowledged:
            return
        self._silence.saw(True)
        # Where silence is common, it says nothing of a provider that had a word for a later request.
        if not self._silence.is_common or not attempt.was_passed_over:
            attempt.standing.silent(now, attempt.sent_at, self._silence.enough)
        attempt.slot.silences += 1
        self._elsewhere(attempt, now)

    def _unheard(self, attempt: Attempt, now: float) -> None:
        """Where silence is common, or a later request was not met with it, no further deadline is waited for."""
        if attempt.live and (self._silence.is_common or attempt.was_passed_over):
            self._unacknowledged(attempt, now)

    def _unanswered(self, attempt: Attempt, now: float) -> None:
        if attempt.slot.lane.others_for(attempt.slot):
            self._lapsed(attempt, now)
        else:
            self._watch(attempt, now + self._settings.answer_s, self._unanswered)

    def _lapsed(self, attempt: Attempt, now: float) -> None:
        attempt.standing.missed(now, now - attempt.sent_at)
        attempt.slot.failures += 1
        self._elsewhere(attempt, now)

    def _elsewhere(self, attempt: Attempt, now: float) -> None:
        """It is waited for no longer, and its slot goes to somebody else."""
        self._release(attempt, now)
        self._cancel(attempt)
        self._rested(attempt.standing, now)
        attempt.slot.tried.add(attempt.standing.provider)
        self._again(attempt.slot, now)

    def _consider_hedge(self, attempt: Attempt, now: float) -> None:
        slot = attempt.slot
        lane = slot.lane
        if len(slot.live) > 1:
            return
        usual = lane.usual(HEDGE_QUANTILE)
        if slot.silences >= UNLUCKY and self._silence.is_common:
            if self._hedge(slot, now):
                return
        elif usual is not None:
            late_at = attempt.sent_at + max(HEDGE_AFTER_S, HEDGE_FACTOR * usual) * attempt.rounds
            if now < late_at:
                self._watch(attempt, late_at, self._consider_hedge)
                return
            # Late already: it must not look as quick as one of which nothing is known.
            attempt.standing.pace.at_least((now - attempt.sent_at) / attempt.rounds)
            self._company.place(attempt.standing, now)
            if lane.is_among_the_last(attempt) and self._hedge(slot, now):
                return
        self._watch(attempt, now + HEDGE_AFTER_S, self._consider_hedge)

    def _hedge(self, slot: Slot, now: float) -> bool:
        lane = slot.lane
        # Jobs that were never sent come first.
        # After a pause of the program this may be looked at before the slot's own end, which is then due as well.
        if lane.presses or self.in_flight >= self._settings.width or slot.ends_at <= now:
            return False
        if lane.hedged >= 2 + self._settings.hedge_share * lane.sent:
            return False
        known = {attempt.standing.provider for attempt in slot.attempts} | slot.barred

        def may(key: str) -> bool:
            return self._may_hedge(slot, key)

        if slot.job.to:
            provider = next((k for k in slot.job.to if k in lane.candidates and k not in known and may(k)), None)
        else:
            provider = lane.candidates.choose(self._rng, known, accept=may)
        if provider is None:
            return False
        self._out.append(self._sending(self._send(slot, self._company[provider], now, hedge=True)))
        return True

    def _may_hedge(self, slot: Slot, provider: str) -> bool:
        """Only to somebody idle who would work at once: free, or with money or credit of ours."""
        standing = self._company[provider]
        listing = standing.listing
        if listing is None or not standing.is_idle or not (listing.price.is_free or listing.funded):
            return False
        if standing.silences:
            return False
        return self._may(slot, provider)

    def _rested(self, standing: Standing, now: float) -> None:
        """Places it anew, and once more when its rest is over."""
        self._company.place(standing, now)
        if standing.rests(now):
            self._timers.at(
                standing.rests_until,
                lambda at: self._company.place(standing, at),
                lambda: standing.listing is not None,
            )

    def _watch(self, attempt: Attempt, when: float, due: Callable[[Attempt, float], None]) -> None:
        self._timers.at(when, lambda at: due(attempt, at), lambda: attempt.live)
