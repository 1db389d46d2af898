"""What this customer has seen of every provider, and what follows: trust, room, how often it is checked.

Keys cost nothing to make, so no provider starts with trust: an unknown one gets two jobs at a time until three of its
answers have passed a check, and as many are checked as can be afforded until forty have passed. After that samples
are checked, and after a failure all answers again. Evidence fades, and a provider that was caught is left out for a
day, twice as long each time.

Values in, values out: times are Unix seconds, `reputation_store` keeps the records.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from pylon.swarm.circle import Circle

DAY_S = 86_400.0
HALF_LIFE_S = 14 * DAY_S
FIRST_OUT_S = DAY_S
LONGEST_OUT_S = 30 * DAY_S
# Passed checks until it may have more than two jobs at a time, and until it is trusted fully and a failure forgiven.
PROVEN = 3
SETTLED = 10
NEWCOMER_WIDTH = 2
# So many passed checks in a row make up for one that failed. A provider that lies once in five hardly ever has them;
# one that is wrong once in a hundred, as another quantisation may be, mostly has.
FORGIVEN = 20
# From so many passed checks in a row on this share of a provider's answers is checked; the share grows once more than
# SELDOM answers have come without a check.
WELL_KNOWN = 40
SAMPLED, SELDOM = 0.03, 10.0
# A provider that was alone counts as proven after so many believable answers: there was no other to compare with.
ALONE_ENOUGH = 10
# For so many seconds an answer, checked or not, shows that its provider answers; it is noted once an hour at most.
ANSWERED_S, _NOTED_S = 14 * DAY_S, 3_600.0
REASONS = 20
# Anyone can make keys, so only so many providers are remembered; those unseen for longest are forgotten.
REMEMBERED = 50_000


class Seen(StrEnum):
    """What an answer of a provider turned out to be."""

    PASSED = "passed"  # a check agreed
    ALONE = "alone"  # believable, and nobody else was there who could be asked
    FAULTY = "faulty"  # it could not be an honest answer, and was not delivered
    DOUBTFUL = "doubtful"  # empty or an echo, say, where another provider gave a proper answer
    LOST = "lost"  # two others agreed on another answer
    FORGED = "forged"  # its own model, asked here, would never have written this


# From so much `bad` on a newcomer is left out; one that was proven before needs one failed check more.
_ENOUGH = 0.99
_WEIGHT = {Seen.FAULTY: 0.5, Seen.DOUBTFUL: 0.5, Seen.LOST: 1.0, Seen.FORGED: 1.0}


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that was seen, and when."""

    at: float
    seen: Seen
    detail: str


@dataclass(slots=True)
class Record:
    """One provider. Counts fade with a half-life of two weeks; `streak` counts passed checks since a failure."""

    provider: str
    first_at: float
    at: float
    passed: float = 0.0
    alone: float = 0.0
    bad: float = 0.0
    streak: int = 0
    offences: int = 0
    out_until: float = 0.0
    # When an answer last came without a fault; 0: never. It says nothing of whether it was right.
    answered_at: float = 0.0
    reasons: list[Reason] = field(default_factory=list)

    def fade(self, now: float) -> None:
        """Lets what was counted up to now fade."""
        if now <= self.at:
            return
        kept = 0.5 ** ((now - self.at) / HALF_LIFE_S)
        self.passed *= kept
        self.alone *= kept
        self.bad *= kept
        self.at = now

    def has_answered(self, now: float) -> bool:
        """Whether it answered us within two weeks."""
        return self.answered_at > 0.0 and abs(now - self.answered_at) <= ANSWERED_S

    def is_out(self, now: float) -> bool:
        """Whether it is left out."""
        # Longer than any exclusion lasts: it was caught while the clock was ahead.
        return now < self.out_until <= now + LONGEST_OUT_S + DAY_S

    @property
    def proven(self) -> bool:
        """Whether it may have as many jobs as it has slots."""
        return self.streak >= PROVEN or (not self.bad and self.alone >= ALONE_ENOUGH)

    @property
    def trust(self) -> float:
        """0 to 1: at most a half until it is proven, at most eight tenths until ten checks have passed."""
        most = 1.0 if self.streak >= SETTLED else 0.8 if self.streak >= PROVEN else 0.5
        return min(most, (self.passed + 1.0) / (self.passed + 1.0 + 4.0 * self.bad))


class Reputation:
    """See the module. One's own machines, those in `circle.own`, are trusted without checks."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        # Those unseen for longest come first.
        self._records = OrderedDict((one.provider, one) for one in sorted(records, key=lambda one: one.at))
        self.circle = Circle()
        """Set by the client that uses it."""
        self._changed: set[str] = set()
        self._forgotten: set[str] = set()

    def get(self, provider: str) -> Record | None:
        """The record of a provider; None for an unknown one."""
        return self._records.get(provider)

    def trust(self, provider: str) -> float:
        """How much a provider is trusted, 0 to 1; 0.5 for an unknown one."""
        if self.circle.is_own(provider):
            return 1.0
        record = self._records.get(provider)
        return 0.5 if record is None else record.trust

    def is_proven(self, provider: str) -> bool:
        """Whether three of its answers have passed a check."""
        record = self._records.get(provider)
        return self.circle.is_own(provider) or (record is not None and record.proven)

    def has_answered(self, provider: str, now: float) -> bool:
        """Whether it answered us within two weeks, in this process or an earlier one."""
        record = self._records.get(provider)
        return record is not None and record.has_answered(now)

    def answering(self, now: float) -> Iterator[str]:
        """The providers that answered us within two weeks and are not left out, the latest first."""
        return (
            one.provider
            for one in reversed(self._records.values())
            if one.has_answered(now) and not self.is_out(one.provider, now)
        )

    def is_out(self, provider: str, now: float) -> bool:
        """Whether this provider is left out: nothing is sent there."""
        record = self._records.get(provider)
        return record is not None and record.is_out(now) and not self.circle.is_own(provider)

    def width(self, provider: str, now: float) -> int | None:
        """How many jobs may be in flight at this provider; None: as many as it has room for."""
        if self.is_out(provider, now):
            return 0
        return None if self.is_proven(provider) else NEWCOMER_WIDTH

    def check_share(self, provider: str, loose: int) -> float:
        """The chance that its next answer is checked; `loose` answers came since one was last checked.

        It grows with `loose`, so that a provider that begins to lie is noticed soon.
        """
        if self.circle.is_own(provider):
            return 0.0
        record = self._records.get(provider)
        return 1.0 if record is None or record.streak < WELL_KNOWN else SAMPLED * max(1.0, loose / SELDOM)

    def was_checked(self, provider: str) -> bool:
        """Whether any of its answers was ever checked, with whatever result."""
        record = self._records.get(provider)
        return self.circle.is_own(provider) or (record is not None and (record.passed > 0 or record.bad > 0))

    def is_suspect(self, provider: str) -> bool:
        """Whether it failed a check and has not passed ten since."""
        record = self._records.get(provider)
        return record is not None and record.bad >= 0.5 and record.streak < SETTLED

    def answered(self, provider: str, now: float) -> None:
        """An answer without a fault came from this provider."""
        record = self._records.get(provider)
        if self.circle.is_own(provider) or (record is not None and abs(now - record.answered_at) < _NOTED_S):
            return
        self._seen(provider, now).answered_at = now

    def note(self, provider: str, seen: Seen, now: float, detail: str = "") -> bool:
        """Books what was seen of an answer; True if the provider is left out because of it, and was not before."""
        if self.circle.is_own(provider):
            return False
        record = self._seen(provider, now)
        if seen is Seen.ALONE:
            record.alone += 1
            return False
        if seen is Seen.PASSED:
            record.passed += 1
            record.streak += 1
            if record.streak % FORGIVEN == 0:
                record.bad = max(0.0, record.bad - _WEIGHT[Seen.LOST])
            return False
        was_proven = record.proven
        record.bad += _WEIGHT[seen]
        record.streak = 0
        record.reasons = [*record.reasons, Reason(now, seen, detail)][-REASONS:]
        if record.is_out(now) or record.bad < _ENOUGH + (was_proven or record.passed >= PROVEN):
            return False
        record.out_until = now + min(FIRST_OUT_S * 2.0**record.offences, LONGEST_OUT_S)
        record.offences += 1
        return True

    def pardon(self, provider: str) -> None:
        """Takes back a lost comparison that turned out to prove nothing."""
        record = self._records.get(provider)
        if record is None or not record.bad:
            return
        self._changed.add(provider)
        record.bad = max(0.0, record.bad - _WEIGHT[Seen.LOST])
        lost = [reason for reason in record.reasons if reason.seen is Seen.LOST]
        record.reasons = [reason for reason in record.reasons if reason not in lost[-1:]]
        if record.out_until and record.bad < _ENOUGH:
            record.out_until = 0.0
            record.offences -= 1

    def _seen(self, provider: str, now: float) -> Record:
        record = self._records.get(provider)
        if record is None:
            record = self._records[provider] = Record(provider, now, now)
            self._forget()
        self._records.move_to_end(provider)
        self._changed.add(provider)
        record.fade(now)
        return record

    def _forget(self) -> None:
        if len(self._records) > REMEMBERED:
            provider, _ = self._records.popitem(last=False)
            self._changed.discard(provider)
            self._forgotten.add(provider)

    def take_forgotten(self) -> list[str]:
        """The providers whose records were forgotten since the last call, and have not come back."""
        forgotten = [provider for provider in self._forgotten if provider not in self._records]
        self._forgotten.clear()
        return forgotten

    def take_changed(self) -> list[Record]:
        """The records that changed since the last call."""
        changed = [self._records[provider] for provider in self._changed]
        self._changed.clear()
        return changed

    def not_written(self, changed: Iterable[Record], forgotten: Iterable[str]) -> None:
        """What was taken could not be saved: it is given out again with the next call."""
        self._changed.update(record.provider for record in changed if record.provider in self._records)
        self._forgotten.update(forgotten)


def why(record: Record | None, now: float, *, own: bool = False) -> list[str]:
    """What a person should read about a provider's standing, a line each. `own`: it is one's own machine."""
    if own:
        return ["one of your own: it gets as many jobs as it has slots, and its answers are not checked"]
    if record is None:
        return ["unknown so far: it gets two jobs at a time, and its answers are checked"]
    record.fade(now)
    lines = [
        f"known for {(now - record.first_at) / DAY_S:.1f} days; trust {record.trust:.2f}",
        f"{record.passed:.0f} checks passed, {record.streak} in a row; {record.alone:.0f} answers while it was alone",
    ]
    if record.is_out(now):
        lines.append(
            f"excluded for {(record.out_until - now) / 3600:.1f} h more, for offence number {record.offences}"
        )
    elif not record.proven:
        lines.append("gets two jobs at a time until three of its answers have passed a check")
    lines += [
        f"{(now - reason.at) / 3600:.1f} h ago: {reason.seen.value}{': ' if reason.detail else ''}{reason.detail}"
        for reason in reversed(record.reasons)
    ]
    return lines
