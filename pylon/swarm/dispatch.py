"""Who gets which job, and what is done when nothing comes back: events in, commands out, no socket and no clock.

    dispatcher = Dispatcher(DispatchSettings(), random.Random())
    for command in dispatcher.handle(Add(jobs), now): …

Every slot ends with exactly one `Deliver` or `GiveUp`. The cost of a decision does not grow with the number of
providers: they are kept in order of expected completion (`candidates`), and every deadline is in one heap.
"""

import heapq
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from itertools import chain, islice

from pylon.jobs.codes import ErrorCode
from pylon.swarm import moves as m
from pylon.swarm.budget import Budgets
from pylon.swarm.directory import ProviderDown, ProviderUp
from pylon.swarm.lane import Attempt, Lane, Slot
from pylon.swarm.listing import Listing, Need
from pylon.swarm.room import RelayRoom
from pylon.swarm.settings import DispatchSettings
from pylon.swarm.silence import Silence
from pylon.swarm.standing import Standing

# What is remembered of providers that are gone, so that leaving and coming back clears no record.
REMEMBERED = 10_000
LANES = 32
# A new need is looked for among so many that do; the others join it with their next heartbeat.
ENOUGH = 4_000
SEND_FAILURES = 3
# A code that is the same everywhere is believed when two say it: one liar must not be able to end a job.
FINAL_REFUSALS = 2
HEDGE_AFTER_S = 0.25
HEDGE_QUANTILE = 0.9
HEDGE_FACTOR = 1.5
# Each customer sees a provider's time up to so much longer than it is, by a factor of its own.
SPREAD = 0.2

_BUSY = frozenset({ErrorCode.BUSY, ErrorCode.PAUSED, ErrorCode.CUSTOMER_LIMIT, ErrorCode.CREDIT_EXHAUSTED})
_FAULTS = frozenset({ErrorCode.ENGINE_FAILED, None})


# When, a number that orders equals, what is then to be done, and whether it still matters by then.
type _Timer = tuple[float, int, Callable[[float], None], Callable[[], bool]]


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
        self._standings: dict[str, Standing] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._lanes: OrderedDict[Need, Lane] = OrderedDict()
        self._turns: deque[Lane] = deque()
        self._slots: dict[int, Slot] = {}
        self._attempts: dict[int, Attempt] = {}
        self.last_attempt = 0
        self._timers: list[_Timer] = []
        self._last_timer = 0
        self._sweep_at = 1_024
        self._out: list[m.Command] = []
        self.in_flight = 0

    @property
    def open(self) -> int:
        """Slots without an outcome."""
        return len(self._slots)

    def next_due(self) -> float | None:
        """When the next `Tick` can matter at the earliest."""
        return self._timers[0][0] if self._timers else None

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
                self._provider_up(listing, now)
            case ProviderDown(provider):
                self._provider_down(provider, now)
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
            case m.Answered(attempt, charged):
                self._on(attempt, lambda found, at: self._answered(found, charged, at), now)
            case m.Refused(attempt, code):
                self._on(attempt, lambda found, at: self._refused(found, code, at), now)
            case m.Tick():
                pass
        while self._timers and self._timers[0][0] <= now:
            _, _, due, matters = heapq.heappop(self._timers)
            if matters():
                due(now)
        self._fill(now)
        out, self._out = self._out, []
        return out

    # --- providers --------------------------------------------------------------------------------------------

    def _provider_up(self, listing: Listing, now: float) -> None:
        standing = self._standing(listing.provider)
        self._gone.pop(listing.provider, None)
        standing.update(listing, self._settings.overcommit)
        standing.relays = self._room.shared(listing.relays)
        for lane in self._lanes.values():
            self._join(lane, standing, now)

    def _standing(self, provider: str) -> Standing:
        standing = self._standings.get(provider)
        if standing is None:
            standing = self._standings[provider] = Standing(provider)
            standing.spread = 1.0 + SPREAD * self._rng.random()
        return standing

    def _provider_down(self, provider: str, now: float) -> None:
        standing = self._standings.get(provider)
        if standing is None:
            return
        # What is in flight there stays: one that leaves in good order finishes first, and the others are timed.
        standing.listing = None
        for lane in self._lanes.values():
            self._join(lane, standing, now)
        self._gone[provider] = None
        if len(self._gone) > REMEMBERED:
            oldest, _ = self._gone.popitem(last=False)
            del self._standings[oldest]

    def _join(self, lane: Lane, standing: Standing, now: float) -> None:
        if standing.fits(lane.need):
            lane.members.add(standing.provider)
        elif standing.provider in lane.members:
            lane.members.discard(standing.provider)
            if not lane.members:
                self._emptied(lane, now)
        lane.place(standing, now)

    def _place(self, standing: Standing, now: float) -> None:
        for lane in self._lanes.values():
            if standing.provider in lane.members:
                lane.place(standing, now)

    def _rested(self, standing: Standing, now: float) -> None:
        """Places it anew, and once more when its rest is over."""
        self._place(standing, now)
        if standing.rests(now):
            self._at(
                standing.rests_until,
                lambda at: self._place(standing, at),
                lambda: standing.listing is not None,
            )

    # --- slots ------------------------------------------------------------------------------------------------

    def _add(self, jobs: tuple[m.Job, ...], now: float) -> None:
        for job in jobs:
            slot = self._open(job, now)
            # One that is for some only is looked at by itself, as those are that were sent before.
            if job.to or job.without:
                slot.lane.again.append(slot)
            else:
                slot.lane.fresh.put(slot)
        for need in {job.need for job in jobs}:
            lane = self._lanes[need]
            if not lane.members:
                self._look_for_nobody(lane, now)

    def _open(self, job: m.Job, now: float) -> Slot:
        lane = self._lane(job, now)
        slot = self._slots[job.slot] = Slot(job, lane, job.deadline, now, barred=set(job.without))
        lane.open += 1
        self._end_at(slot, job.deadline)
        return slot

    def _adopt(self, job: m.Job, provider: str, cost: int, now: float) -> None:
        slot, standing = self._open(job, now), self._standing(provider)
        if standing.listing is None:
            self._gone[provider] = None
        attempt = self._send(slot, standing, now, hedge=False, cost=cost)
        attempt.published = attempt.acknowledged = True

    def _lane(self, job: m.Job, now: float) -> Lane:
        need = job.need
        lane = self._lanes.get(need)
        if lane is not None:
            self._lanes.move_to_end(need)
            return lane
        if len(self._lanes) >= LANES:
            unused = next((old for old in self._lanes.values() if not old.open), None)
            if unused is not None:
                del self._lanes[unused.need]
                self._turns.remove(unused)
        lane = self._lanes[need] = Lane(
            need, job.prompt_tokens, job.max_tokens, self._settings.samples, self._settings.price_weight
        )
        lane.empty_since = now
        self._turns.append(lane)
        known = list(self._standings.values())
        start = self._rng.randrange(len(known)) if known else 0
        for standing in chain(islice(known, start, None), islice(known, start)):
            if len(lane.members) >= ENOUGH:
                break
            if standing.fits(need):
                lane.members.add(standing.provider)
                lane.place(standing, now)
        return lane

    def _emptied(self, lane: Lane, now: float) -> None:
        lane.empty_since = now
        self._look_for_nobody(lane, now)

    def _look_for_nobody(self, lane: Lane, now: float) -> None:
        self._at(now + self._settings.patience_s, lambda at: self._nobody(lane, at), lambda: not lane.members)

    def _nobody(self, lane: Lane, now: float) -> None:
        if lane.members or lane.empty_since + self._settings.patience_s > now:
            return
        for slot in (*lane.again, *lane.fresh.slots()):
            if not slot.done and slot.queued_at + self._settings.patience_s <= now:
                self._give_up(slot, m.Failure.NO_PROVIDER, now)

    def _end_at(self, slot: Slot, when: float) -> None:
        slot.ends_at = when
        self._at(
            when,
            lambda at: self._give_up(slot, m.Failure.DEADLINE, at),
            lambda: not slot.done and slot.ends_at == when,
        )

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
            while idle < len(self._turns) and self.in_flight < self._settings.width:
                lane = self._turns[0]
                self._turns.rotate(-1)
                idle += 1
                if lane.waiting and lane.priority >= priority and self._one_of(lane, now):
                    idle = 0

    def _priorities(self) -> list[int]:
        """Those that wait, the highest first."""
        return sorted({lane.priority for lane in self._turns if lane.waiting}, reverse=True)

    def _one_of(self, lane: Lane, now: float) -> bool:
        """Sends a job of this lane or gives one up; whether there was one."""
        self._short = None
        found = lane.next_send(self._rng, self._may)
        if found is not None:
            slot, provider = found
            self._out.append(self._sending(self._send(slot, self._standings[provider], now, hedge=False)))
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
        standing = self._standings[provider]
        if not self._room.has(standing.relays):
            return False
        if self._budgets.affords(slot.job.run, standing.quote(slot.job.prompt_tokens, slot.job.max_tokens)):
            return True
        self._short = slot
        return False

    def _send(self, slot: Slot, standing: Standing, now: float, *, hedge: bool, cost: int | None = None) -> Attempt:
        job = slot.job
        if not slot.attempts:
            self._end_at(slot, min(job.deadline, now + job.timeout))
        self.last_attempt += 1
        attempt = Attempt(self.last_attempt, slot, standing, now, standing.rounds, hedge)
        attempt.cost = standing.quote(job.prompt_tokens, job.max_tokens) if cost is None else cost
        attempt.relay = self._room.take(standing.relays)
        self._budgets.reserve(job.run, attempt.cost)
        self._attempts[attempt.id] = attempt
        slot.attempts.append(attempt)
        slot.lane.sent += 1
        slot.lane.in_flight += 1
        slot.lane.hedged += hedge
        standing.in_flight += 1
        self.in_flight += 1
        self._place(standing, now)
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
        self._place(attempt.standing, now)

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
        if attempt.live:
            self._release(attempt, now, charged)
        else:
            self._place(standing, now)
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
                self._join(slot.lane, standing, now)
        self._rested(standing, now)
        self._again(slot, now)

    def _acknowledged(self, attempt: Attempt, now: float) -> None:
        self._heard(attempt, now)
        attempt.acknowledged = True

    def _heard(self, attempt: Attempt, now: float) -> None:
        """A word came: neither the request nor its provider is lost."""
        if attempt.live and not attempt.acknowledged:
            self._silence.saw(False)
        if attempt.standing.silences:
            attempt.standing.silences = 0
            self._place(attempt.standing, now)

    def _unacknowledged(self, attempt: Attempt, now: float) -> None:
        """Nothing was heard. The request may be lost: that is no failure of its provider, and others are asked."""
        if attempt.acknowledged:
            return
        self._silence.saw(True)
        attempt.standing.silent(now, attempt.sent_at, self._silence.enough)
        attempt.slot.silences += 1
        self._elsewhere(attempt, now)

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
        if usual is not None:
            late_at = attempt.sent_at + max(HEDGE_AFTER_S, HEDGE_FACTOR * usual) * attempt.rounds
            if now < late_at:
                self._watch(attempt, late_at, self._consider_hedge)
                return
            # Late already: it must not look as quick as one of which nothing is known.
            attempt.standing.pace.at_least((now - attempt.sent_at) / attempt.rounds)
            self._place(attempt.standing, now)
            if self._hedge(slot, now):
                return
        self._watch(attempt, now + HEDGE_AFTER_S, self._consider_hedge)

    def _hedge(self, slot: Slot, now: float) -> bool:
        lane = slot.lane
        # Jobs that were never sent come first, and a swarm that is slow as a whole is not helped by asking twice.
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
        self._out.append(self._sending(self._send(slot, self._standings[provider], now, hedge=True)))
        return True

    def _may_hedge(self, slot: Slot, provider: str) -> bool:
        """Only to somebody idle who would work at once: free, or with money or credit of ours."""
        standing = self._standings[provider]
        listing = standing.listing
        if listing is None or not standing.is_idle or not (listing.price.is_free or listing.funded):
            return False
        if standing.silences:
            return False
        return self._may(slot, provider)

    # --- timers -----------------------------------------------------------------------------------------------

    def _watch(self, attempt: Attempt, when: float, due: Callable[[Attempt, float], None]) -> None:
        self._at(when, lambda at: due(attempt, at), lambda: attempt.live)

    def _at(self, when: float, due: Callable[[float], None], matters: Callable[[], bool]) -> None:
        self._last_timer += 1
        heapq.heappush(self._timers, (when, self._last_timer, due, matters))
        if len(self._timers) > self._sweep_at:
            self._timers = [timer for timer in self._timers if timer[3]()]
            heapq.heapify(self._timers)
            self._sweep_at = max(1_024, 2 * len(self._timers))
