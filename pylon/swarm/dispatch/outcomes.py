"""What became of an attempt (published, acknowledged, answered, refused, silent) and what follows from it."""

import math

from pylon.jobs.codes import ErrorCode
from pylon.swarm.dispatch.hedging import Hedging
from pylon.swarm.dispatch.in_flight import InFlight
from pylon.swarm.dispatch.open_slots import OpenSlots
from pylon.swarm.dispatch.rebalancing import Rebalancing
from pylon.swarm.dispatch.roster import Roster
from pylon.swarm.dispatch.silence import Silence
from pylon.swarm.dispatch.slot import Attempt
from pylon.swarm.dispatch.standing import Standing
from pylon.swarm.dispatch.timers import Timers
from pylon.swarm.settings import DispatchSettings

_BUSY = frozenset({ErrorCode.BUSY, ErrorCode.PAUSED, ErrorCode.CUSTOMER_LIMIT, ErrorCode.CREDIT_EXHAUSTED})
# An answer is late when it takes so many times as long as expected, and longer than `answer_s`.
_TIMES = 2.0
# Whether somebody else could do a job that takes long is looked at every `answer_s`, but no more often than this.
_LEAST_LOOK_S = 1.0
_FAULTS = frozenset({ErrorCode.ENGINE_FAILED, None})


class Outcomes:
    """See the module."""

    def __init__(
        self,
        *,
        settings: DispatchSettings,
        roster: Roster,
        slots: OpenSlots,
        in_flight: InFlight,
        hedging: Hedging,
        rebalancing: Rebalancing,
        silence: Silence,
        timers: Timers,
    ) -> None:
        self._settings = settings
        self._roster = roster
        self._slots = slots
        self._in_flight = in_flight
        self._hedging = hedging
        self._rebalancing = rebalancing
        self._silence = silence
        self._timers = timers
        self._look_s = max(_LEAST_LOOK_S, settings.answer_s)

    def sent(self, attempt: Attempt, now: float) -> None:
        """An attempt was sent: starts the timers for its slot and its answer."""
        if len(attempt.slot.attempts) == 1:
            self._slots.sent(attempt.slot, now)
        expected_s = attempt.slot.lane.seconds_at(attempt.standing) * attempt.rounds
        attempt.expected_at = now + expected_s
        # A provider that announced that it is slow gets the time that it needs.
        self._timers.at(now + max(self._settings.answer_s, _TIMES * expected_s), self._unanswered, attempt)
        if expected_s > self._settings.answer_s:
            self._timers.at(now + self._look_s, self._slow, attempt)

    def published(self, attempt: Attempt, now: float) -> None:
        """A relay has the request: starts the timers for a word from the provider and for hedging."""
        if not attempt.live or attempt.published:
            return
        attempt.published = True
        attempt.sent_at = now
        self._timers.at(now + self._settings.ack_s, self._unacknowledged, attempt)
        self._hedging.published(attempt, now)

    def send_failed(
        self, attempt: Attempt, now: float, *, unmade: bool, too_large: bool = False, unknown: bool = False
    ) -> None:
        """No relay took it, or there was nothing to take; or it is unknown whether one did."""
        if not attempt.live or attempt.published:
            return
        if unknown and not self._in_flight.may_again(attempt):
            # Its run could not pay for a second one beside it: if anybody works on this one, its answer is wanted.
            self.published(attempt, now)
            return
        slot, provider = attempt.slot, attempt.standing.provider
        self._in_flight.release(attempt, now, None if unknown else 0)
        if unknown:
            slot.unconfirmed = True
            self._in_flight.cancel(attempt)
        if too_large:
            # It would be as large next time. There may be many such providers, and one that is reached elsewhere.
            slot.barred |= {provider}
            slot.too_large = True
        else:
            slot.send_failures += 1
            if unmade:
                # The next try goes to another provider. Nothing is held against this one: most often the job is at
                # fault.
                slot.tried |= {provider}
        self._slots.again(slot, now)

    def acknowledged(self, attempt: Attempt, wait_s: float | None, now: float) -> None:
        """The provider has the job, and begins with it in `wait_s` seconds (None: it did not say)."""
        self._heard(attempt, now)
        attempt.acknowledged = True
        if wait_s is not None:
            self._rebalancing.told(attempt, wait_s, now)

    def answered(self, attempt: Attempt, charged: int | None, now: float) -> None:
        """An answer came. `charged` is in msat; None: not known yet."""
        # The answer of an attempt that was given up as too slow is welcome while the slot is empty.
        slot, standing = attempt.slot, attempt.standing
        seconds = max(0.0, now - attempt.sent_at) / attempt.rounds
        self._heard(attempt, now)
        standing.answered(attempt.id, seconds)
        slot.lane.figures.saw(seconds)
        if attempt.live:
            self._in_flight.release(attempt, now, charged)
        else:
            self._in_flight.charge(attempt, charged)
            self._roster.place(standing, now)
        self._slots.deliver(attempt, now)
        self._rebalancing.answered(attempt, now)

    def refused(
        self, attempt: Attempt, code: ErrorCode | None, now: float, *, ours: bool, unpaid: bool = False
    ) -> None:
        """The provider refused or failed the job. See `Refused` for `code`, `ours` and `unpaid`."""
        if not attempt.live:
            return
        slot, standing = attempt.slot, attempt.standing
        self._heard(attempt, now)
        # Without a code an answer came that was no good or cannot be read, and it may be charged.
        self._in_flight.release(attempt, now, None if code is None and not unpaid else 0)
        slot.code, slot.unpaid = code or slot.code, unpaid
        if unpaid:
            # It would keep the job until it is paid, unless it is told to stop.
            self._in_flight.cancel(attempt)
            standing.refused(now)
            slot.barred |= {standing.provider}
            slot.refusals += 1
        elif code in _BUSY:
            standing.was_busy(now)
            slot.refusals += 1
        elif code in _FAULTS:
            if not ours:
                standing.missed(now, 0.0, attempt.sent_at)
            slot.tried |= {standing.provider}
            slot.failures += 1
        else:
            standing.refused(now)
            slot.barred |= {standing.provider}
            slot.refusals += 1
            slot.final_refusals += code is not None and not code.elsewhere
            if code is ErrorCode.UNSUPPORTED_MODEL and slot.job.need.model is not None:
                standing.refused_models.add(slot.job.need.model)
                self._roster.join(slot.lane, standing, now)
        self._rested(standing, now)
        self._slots.again(slot, now)

    def unheard(self, attempt: Attempt, now: float) -> None:
        """Relays were asked, and hold nothing from the provider for this attempt.

        Where silence is common, or the provider reacted to a later request, the request is taken to be lost without
        waiting for its deadline. An adopted attempt was most likely never sent, which says nothing of its provider.
        """
        if attempt.live and attempt.taken_back:
            self._taken_back(attempt, now)
        elif attempt.live and attempt.adopted and not attempt.acknowledged:
            self._elsewhere(attempt, now)
        elif attempt.live and (self._silence.is_common or attempt.was_passed_over):
            self._unacknowledged(attempt, now)

    def _taken_back(self, attempt: Attempt, now: float) -> None:
        """No answer came before the attempt was taken back: the job is sent again, perhaps to the same provider.

        What the attempt may be charged stays set aside. A run that could not pay for both waits until the provider
        says that it charges nothing.
        """
        if self._in_flight.may_again(attempt):
            self._in_flight.release(attempt, now)
            self._slots.again(attempt.slot, now)

    def _heard(self, attempt: Attempt, now: float) -> None:
        """The provider said something: neither the request nor the provider is lost."""
        attempt.slot.lane.unheard_since = math.inf
        if attempt.live and not attempt.acknowledged:
            self._silence.saw(False)
        attempt.standing.heard_of = max(attempt.standing.heard_of, attempt.sent_at)
        if attempt.standing.silences:
            attempt.standing.silences = 0
            self._roster.place(attempt.standing, now)

    def _unacknowledged(self, attempt: Attempt, now: float) -> None:
        """The provider said nothing in time. The request may be lost, so this is no failure, but others are asked."""
        if attempt.acknowledged:
            return
        self._silence.saw(True)
        # Where silence is common, it says nothing about a provider that reacted to a later request.
        if not self._silence.is_common or not attempt.was_passed_over:
            attempt.standing.silent(now, attempt.sent_at, self._silence.enough)
        attempt.slot.silences += 1
        self._slots.look_for_words(attempt, now)
        self._elsewhere(attempt, now)

    def _slow(self, attempt: Attempt, now: float) -> None:
        """Its provider needs long by its own figures. They may be made up, and must not keep the job from others."""
        if now < attempt.expected_at:
            self._rebalancing.slow(attempt, now)
            self._timers.at(now + self._look_s, self._slow, attempt)

    def _unanswered(self, attempt: Attempt, now: float) -> None:
        if not attempt.slot.lane.others_for(attempt.slot):
            self._timers.at(now + self._look_s, self._unanswered, attempt)
            return
        # An adopted attempt may have been taken back by a process that died before it had written that down.
        if not attempt.adopted:
            attempt.standing.missed(now, now - attempt.sent_at, attempt.sent_at)
            attempt.slot.failures += 1
        self._elsewhere(attempt, now)

    def _elsewhere(self, attempt: Attempt, now: float) -> None:
        """Gives the attempt up, and has its slot sent to another provider."""
        self._in_flight.release(attempt, now)
        self._in_flight.cancel(attempt)
        self._rested(attempt.standing, now)
        attempt.slot.tried |= {attempt.standing.provider}
        self._slots.again(attempt.slot, now)

    def _rested(self, standing: Standing, now: float) -> None:
        """Ranks the provider anew, now and when its rest is over."""
        self._roster.place(standing, now)
        if standing.rests(now):
            self._timers.at(standing.rests_until, self._roster.place, standing)
