"""Which answers are checked, how, and what follows for the answer and its provider. Values in, decisions out.

An answer that is to be checked is held back meanwhile. It is re-scored where this customer holds the same model;
otherwise its question goes to a second provider as one more job of the same run, which nothing marks, and when the
two differ to a third. Each comparison checks both sides. What checks cost in further jobs is bounded by a share of
the run's jobs; only what must be decided (two answers that differ, an answer that is hardly believable) may pass it.
Before anybody is checked twice, everybody is checked once: a comparison spent on one of whom another is under way
could be the one that a liar goes without.

When somebody turns out to lie, what it answered in runs that are still open, and was not checked, is asked again.
"""

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pylon.swarm.directory import Change, ProviderUp
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.peers import ANY, Peers
from pylon.swarm.reputation import Reputation, Seen
from pylon.swarm.settings import CheckSettings
from pylon.swarm.verification import Doubt, Verdict, doubts_of, same, value_of

# So many are drawn, and the better half of them may be asked for a second opinion.
DRAWN = 12
ASKED = 6
# A second opinion may take so many times as long as the first, and this at least: a run does not wait for more.
PATIENCE, LEAST_S = 4.0, 5.0
# What must be decided may overdraw the allowance by so many jobs.
OVERDRAFT = 10.0
# A comparison that nobody answered is asked for once more.
TRIES = 2


@dataclass(frozen=True, slots=True)
class Accept:
    """This answer fills the slot. `how` names what it passed."""

    slot: int
    answer: Answer
    how: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the first of these providers that has room the slot's question too; `second` or `no_second` follows."""

    slot: int
    to: tuple[str, ...]
    within_s: float


@dataclass(frozen=True, slots=True)
class Rescore:
    """Have our own model read this answer; `scored` follows."""

    slot: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class Again:
    """These slots are to be asked again, by somebody else than this provider; some were filled before."""

    slots: tuple[int, ...]
    without: str


@dataclass(frozen=True, slots=True)
class Changed:
    """What may go to this provider has changed."""

    provider: str


type Command = Accept | Ask | Rescore | Again | Changed


@dataclass(slots=True)
class _Case:
    """An answer under examination. `answers` are those that came, the first one's own first."""

    slot: int
    asked: JobSpec
    doubts: tuple[Doubt, ...]
    answers: list[Answer]
    tried: set[str]
    waiting: int = 0
    unanswered: int = 0
    how: list[str] = field(default_factory=list)


class Checks:
    """See the module. `holds` are the weights hashes of models that can be asked here."""

    def __init__(self, settings: CheckSettings, reputation: Reputation, rng: random.Random) -> None:
        self._settings = settings
        self._reputation = reputation
        self._rng = rng
        self._peers = Peers()
        self._cases: dict[int, _Case] = {}
        # Whose answers are under examination, how many of each.
        self._examined: Counter[str] = Counter()
        # What each provider answered since it last passed a check, in runs that are open.
        self._loose: dict[str, dict[int, None]] = {}
        self._loose_at: dict[int, str] = {}
        self._out: list[Command] = []
        self._allowance = 1.0
        # What open runs will still add to it with their answers.
        self._expected = 0.0
        self.holds: frozenset[str] = frozenset()
        # Further jobs that comparisons took, and answers that our own model read.
        self.asked = 0
        self.rescored = 0

    def observe(self, change: Change) -> None:
        """A provider came, changed or went."""
        if isinstance(change, ProviderUp):
            self._peers.put(change.listing)
        else:
            self._peers.remove(change.provider)

    def added(self, jobs: int) -> None:
        """A run of so many jobs began. Half of its allowance is there at once, the rest comes with its answers."""
        half = self._settings.share * jobs / 2
        self._allowance += half
        self._expected += half

    def closed(self, slots: Iterable[int], *, last: bool = False) -> None:
        """A run ended: nothing of it can be asked again. `last`: no other is open."""
        if last:
            self._expected = 0.0
        for slot in slots:
            if (case := self._cases.get(slot)) is not None:
                self._close(case)
            provider = self._loose_at.pop(slot, None)
            if provider is not None and (loose := self._loose.get(provider)) is not None:
                loose.pop(slot, None)
                if not loose:
                    del self._loose[provider]

    def answered(self, slot: int, asked: JobSpec, answer: Answer, now: float) -> list[Command]:
        """A slot has an answer without a fault. An `Accept` or `Again` for it follows now or later, exactly one."""
        self._out = []
        half = self._settings.share / 2
        self._allowance += half
        self._expected = max(0.0, self._expected - half)
        provider, doubts = answer.provider, doubts_of(asked, answer)
        case = _Case(slot, asked, doubts, [answer], {provider})
        if asked.votes > 1:
            self._open(case)
            self._vote(case, now)
        elif not doubts and (self._can_wait(answer) or self._rng.random() >= self._share(provider)):
            self._leave_loose(slot, provider)
            self._accept(case, answer)
        elif answer.sha256 in self.holds:
            self._open(case)
            self.rescored += 1
            self._out.append(Rescore(slot, answer))
        elif not self._second(case):
            self._unchecked(case, now)
        return self._take()

    def scored(self, slot: int, verdict: Verdict, now: float) -> list[Command]:
        """What our own model says of the answer that it was given."""
        self._out = []
        case = self._cases.get(slot)
        if case is None or case.waiting:
            return []
        [answer] = case.answers
        if verdict is Verdict.PASSED:
            case.how.append("rescored")
            self._note(answer, Seen.PASSED, now)
            self._accept(case, answer)
        elif verdict is Verdict.FAILED:
            self._note(answer, Seen.FORGED, now, "its model here would not have written this")
            self._again(case)
        elif not self._second(case):
            self._unchecked(case, now)
        return self._take()

    def second(self, slot: int, answer: Answer, now: float) -> list[Command]:
        """Another provider's answer to a slot's question."""
        self._out = []
        case = self._cases.get(slot)
        if case is not None:
            case.waiting -= 1
            case.answers.append(answer)
            case.tried.add(answer.provider)
            self._decide(case, now)
        return self._take()

    def no_second(self, slot: int, now: float) -> list[Command]:
        """Nobody gave a second answer to a slot's question."""
        self._out = []
        case = self._cases.get(slot)
        if case is not None:
            case.waiting -= 1
            case.unanswered += 1
            again = case.asked.votes <= 1 and case.unanswered < TRIES and self._second(case)
            if not case.waiting and not again:
                self._settle(case, now)
        return self._take()

    def _open(self, case: _Case) -> None:
        if case.slot not in self._cases:
            self._cases[case.slot] = case
            self._examined[case.answers[0].provider] += 1

    def _close(self, case: _Case) -> None:
        if self._cases.pop(case.slot, None) is not None:
            provider = case.answers[0].provider
            self._examined[provider] -= 1
            if not self._examined[provider]:
                del self._examined[provider]

    def _can_wait(self, answer: Answer) -> bool:
        """Whether a check would cost a job, and one of something else of its provider is under way already."""
        provider = answer.provider
        return (
            provider in self._examined
            and answer.sha256 not in self.holds
            and not self._reputation.is_suspect(provider)
        )

    def _share(self, provider: str) -> float:
        return self._reputation.check_share(provider, len(self._loose.get(provider, ())))

    # --- what an answer is compared with ----------------------------------------------------------------------

    def _second(self, case: _Case) -> bool:
        """Has one more provider asked, when there is one and the allowance is not used up."""
        suspect = self._reputation.is_suspect(case.answers[0].provider)
        must = suspect or bool(case.doubts) or len(case.answers) > 1
        if self._allowance < (-OVERDRAFT if must else self._least(case.answers[0].provider)):
            return False
        to = self._whom(case)
        if not to:
            return False
        self._open(case)
        self._ask(case, to)
        return True

    def _least(self, provider: str) -> float:
        """What must be left of the allowance: of somebody never checked, the run's answers to come are enough."""
        return 1.0 if self._reputation.was_checked(provider) else 1.0 - self._expected

    def _ask(self, case: _Case, to: tuple[str, ...]) -> None:
        case.waiting += 1
        self.asked += 1
        if case.asked.votes <= 1:
            self._allowance -= 1.0
        first_s = case.answers[0].latency_ms / 1_000
        self._out.append(Ask(case.slot, to, max(LEAST_S, PATIENCE * first_s)))

    def _whom(self, case: _Case) -> tuple[str, ...]:
        """Who could answer it too. A newcomer is measured by somebody known, and the other way round: each
        comparison tells of both."""
        first = case.answers[0]
        comparable = case.asked.schema is not None or case.asked.votes > 1
        weights = ANY if comparable else first.sha256
        drawn = self._peers.draw(self._rng, weights, DRAWN, case.tried) if weights or comparable else []
        if not drawn and case.doubts:
            # Anybody at all can tell whether the question calls for nothing, or for an echo.
            drawn = self._peers.draw(self._rng, ANY, DRAWN, case.tried)
        known_first = len(case.answers) > 1 or not self._reputation.is_proven(first.provider)
        # Of equals, those come first of whom nothing is known.
        drawn.sort(key=lambda key: key in self._examined or self._reputation.was_checked(key))
        drawn.sort(key=self._reputation.trust, reverse=known_first)
        return tuple(drawn[:ASKED])

    # --- what follows -----------------------------------------------------------------------------------------

    def _decide(self, case: _Case, now: float) -> None:
        if case.asked.votes > 1:
            if not case.waiting:
                self._vote(case, now)
            return
        first, last = case.answers[0], case.answers[-1]
        agree = [answer for answer in case.answers[:-1] if same(case.asked, answer, last)]
        if agree:
            case.how.append("compared")
            for answer in (*agree, last):
                self._note(answer, Seen.PASSED, now)
            for answer in case.answers:
                if answer is not last and answer not in agree:
                    self._note(answer, Seen.LOST, now, "two others agreed on another answer")
            self._accept(case, agree[0])
        elif all(same(case.asked, answer, last) is None for answer in case.answers[:-1]):
            self._incomparable(case, first, last, now)
        elif len(case.answers) > 2 or not self._second(case):
            self._settle(case, now)

    def _incomparable(self, case: _Case, first: Answer, last: Answer, now: float) -> None:
        """Other weights, or chance: only what is hardly believable loses to what is."""
        if case.doubts and not doubts_of(case.asked, last):
            self._note(first, Seen.DOUBTFUL, now, case.doubts[0].value)
            self._accept(case, last)
        else:
            self._unchecked(case, now)

    def _settle(self, case: _Case, now: float) -> None:
        """No further opinion is to be had."""
        if case.asked.votes > 1:
            self._vote(case, now, last=True)
        elif len(case.answers) == 1:
            self._unchecked(case, now)
        else:
            # They differ, and nobody decides between them: the better known one is believed.
            best = max(case.answers, key=lambda answer: self._reputation.trust(answer.provider))
            if len(case.answers) == 2 and self._reputation.is_proven(best.provider):
                [other] = [answer for answer in case.answers if answer is not best]
                if not self._reputation.is_proven(other.provider):
                    self._note(other, Seen.LOST, now, "somebody better known gave another answer")
            self._accept(case, best)

    def _vote(self, case: _Case, now: float, *, last: bool = False) -> None:
        votes, enough = case.asked.votes, case.asked.votes // 2 + 1
        said = [_key(answer) for answer in case.answers]
        [(winner, count)] = Counter(said).most_common(1)
        chosen = case.answers[said.index(winner)]
        if count >= enough:
            case.how.append("majority")
            for answer, value in zip(case.answers, said, strict=True):
                if value == winner:
                    self._note(answer, Seen.PASSED, now)
                else:
                    self._note(answer, Seen.LOST, now, f"{count} of {len(said)} gave another answer")
            self._accept(case, chosen)
            return
        wanted = 0 if last else min(enough - count, votes - len(case.answers))
        to = self._whom(case) if wanted else ()
        for n in range(min(wanted, len(to))):
            # Each is asked of other providers: nobody votes twice.
            self._ask(case, to[n::wanted])
        if not case.waiting:
            self._accept(case, chosen)

    def _unchecked(self, case: _Case, now: float) -> None:
        answer = case.answers[0]
        if not case.doubts:
            if not self._peers.draw(self._rng, ANY, 1, case.tried):
                self._note(answer, Seen.ALONE, now)
            self._leave_loose(case.slot, answer.provider)
        self._accept(case, answer)

    def _leave_loose(self, slot: int, provider: str) -> None:
        self._loose.setdefault(provider, {})[slot] = None
        self._loose_at[slot] = provider

    def _accept(self, case: _Case, answer: Answer) -> None:
        self._close(case)
        believable = () if answer is case.answers[0] and case.doubts else ("plausible",)
        self._out.append(Accept(case.slot, answer, (*believable, *case.how)))

    def _again(self, case: _Case) -> None:
        self._close(case)
        self._out.append(Again((case.slot,), case.answers[0].provider))

    def note(self, provider: str, seen: Seen, now: float, detail: str) -> list[Command]:
        """Something that was seen of a provider without a check, such as a fault."""
        self._out = []
        self._book(provider, seen, now, detail)
        return self._take()

    def _note(self, answer: Answer, seen: Seen, now: float, detail: str = "") -> None:
        self._book(answer.provider, seen, now, detail)

    def _book(self, provider: str, seen: Seen, now: float, detail: str = "") -> None:
        before = self._reputation.width(provider, now)
        caught = self._reputation.note(provider, seen, now, detail)
        if seen is Seen.PASSED or caught:
            loose = self._loose.pop(provider, {})
            for slot in loose:
                del self._loose_at[slot]
            if caught and loose:
                self._out.append(Again(tuple(loose), provider))
        if caught or self._reputation.width(provider, now) != before:
            self._out.append(Changed(provider))

    def _take(self) -> list[Command]:
        out, self._out = self._out, []
        return out


def _key(answer: Answer) -> str:
    return repr(value_of(answer.text))
