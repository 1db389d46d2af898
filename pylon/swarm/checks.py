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
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from pylon.swarm.allowance import Allowance
from pylon.swarm.check_moves import Accept, Again, Ask, Changed, Command, Rescore
from pylon.swarm.directory import Change, ProviderUp
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.peers import ANY, Peers
from pylon.swarm.reputation import Reputation, Seen
from pylon.swarm.settings import CheckSettings
from pylon.swarm.unchecked import Unchecked
from pylon.swarm.verification import Doubt, Verdict, doubts_of, same, value_of

# So many are drawn, and the better half of them may be asked for a second opinion.
DRAWN = 12
ASKED = 6
# A second opinion may take so many times as long as the first, and this at least: a run does not wait for more.
PATIENCE, LEAST_S = 4.0, 5.0
# So many of those that a provider agreed with are remembered.
LATELY = 4
# A comparison that nobody answered is asked for once more.
TRIES = 2


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
        self._reputation = reputation
        self._rng = rng
        self._peers = Peers()
        self._cases: dict[int, _Case] = {}
        # Whose answers are under examination, how many of each.
        self._examined: Counter[str] = Counter()
        # With whom each one agreed lately.
        self._agreed: dict[str, deque[str]] = {}
        # Whose answers passed by the opinion of somebody who was caught, and no check since.
        self._doubted: set[str] = set()
        self._unchecked = Unchecked()
        self._allowance = Allowance(settings.share)
        self._out: list[Command] = []
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
            self._agreed.pop(change.provider, None)
            self._doubted.discard(change.provider)

    def added(self, jobs: int) -> None:
        """A run of so many jobs began."""
        self._allowance.added(jobs)

    def closed(self, slots: Iterable[int], *, last: bool = False) -> None:
        """A run ended: nothing of it can be asked again. `last`: no other is open."""
        if last:
            self._allowance.ended()
        slots = tuple(slots)
        for slot in slots:
            if (case := self._cases.get(slot)) is not None:
                self._close(case)
        self._unchecked.closed(slots)

    def answered(self, slot: int, asked: JobSpec, answer: Answer, now: float) -> list[Command]:
        """A slot has an answer without a fault. An `Accept` or `Again` for it follows now or later, exactly one."""
        self._out = []
        self._allowance.answered()
        provider, doubts = answer.provider, doubts_of(asked, answer)
        case = _Case(slot, asked, doubts, [answer], {provider})
        if self._reputation.is_out(provider, now):
            # It was caught while this was on its way.
            self._again(case)
        elif asked.votes > 1:
            self._open(case)
            self._vote(case, now)
        elif not doubts and (self._can_wait(answer) or self._rng.random() >= self._share(provider)):
            self._unchecked.add(slot, provider)
            self._accept(case, answer)
        elif answer.sha256 in self.holds:
            self._open(case)
            self.rescored += 1
            self._out.append(Rescore(slot, answer))
        elif not self._second(case):
            self._leave(case, now)
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
            self._leave(case, now)
        return self._take()

    def second(self, slot: int, answer: Answer, now: float) -> list[Command]:
        """Another provider's answer to a slot's question."""
        self._out = []
        case = self._cases.get(slot)
        if case is not None and self._reputation.is_out(answer.provider, now):
            case.tried.add(answer.provider)
            return self.no_second(slot, now)
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
        return provider in self._examined and answer.sha256 not in self.holds and not self._is_suspect(provider)

    def _is_suspect(self, provider: str) -> bool:
        return provider in self._doubted or self._reputation.is_suspect(provider)

    def _share(self, provider: str) -> float:
        if provider in self._doubted:
            return 1.0
        return self._reputation.check_share(provider, self._unchecked.count(provider))

    # --- what an answer is compared with ----------------------------------------------------------------------

    def _second(self, case: _Case) -> bool:
        """Has one more provider asked, when there is one and the allowance is not used up."""
        provider = case.answers[0].provider
        must = self._is_suspect(provider) or bool(case.doubts) or len(case.answers) > 1
        first = not self._reputation.was_checked(provider)
        if not self._allowance.affords(must=must, first=first) or not (must or self._is_its_turn(provider)):
            return False
        to = self._whom(case)
        if not to:
            return False
        self._open(case)
        self._ask(case, to)
        return True

    def _is_its_turn(self, provider: str) -> bool:
        """Where checks are too few for everybody, those go first who went longest without."""
        if not self._reputation.is_proven(provider) or self._allowance.left >= len(self._peers):
            return True
        others = self._peers.draw(self._rng, ANY, DRAWN, {provider})
        return self._unchecked.count(provider) >= max(map(self._unchecked.count, others), default=0)

    def _ask(self, case: _Case, to: tuple[str, ...]) -> None:
        case.waiting += 1
        self.asked += 1
        if case.asked.votes <= 1:
            self._allowance.spend()
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
        deciding = len(case.answers) > 1 or self._is_suspect(first.provider)
        known_first = deciding or not self._reputation.is_proven(first.provider)
        # Whoever is to decide should have passed a check lately; whoever is to be checked as well, long ago.
        half = sorted(map(self._unchecked.count, drawn))[len(drawn) // 2] if drawn else 0
        drawn.sort(key=lambda key: self._unchecked.count(key) < half, reverse=known_first)
        # Two that lie alike agree each time: somebody else says more, and most of all one of whom nothing is known.
        agreed = {other for answer in case.answers for other in self._agreed.get(answer.provider, ())}
        drawn.sort(key=agreed.__contains__)
        drawn.sort(key=lambda key: key in self._examined or self._reputation.was_checked(key), reverse=deciding)
        drawn.sort(key=self._reputation.trust, reverse=known_first)
        return tuple(drawn[:ASKED])

    # --- what follows -----------------------------------------------------------------------------------------

    def _decide(self, case: _Case, now: float) -> None:
        if case.asked.votes > 1:
            if not case.waiting:
                self._vote(case, now)
            return
        first, last = case.answers[0], case.answers[-1]
        # What somebody said who was caught meanwhile speaks for nobody.
        case.answers = [answer for answer in case.answers if not self._reputation.is_out(answer.provider, now)]
        if first not in case.answers:
            self._accept(case, last)
            return
        agree = [answer for answer in case.answers[:-1] if same(case.asked, answer, last)]
        if agree and doubts_of(case.asked, last) and not all(doubts_of(case.asked, one) for one in case.answers):
            # Two that are hardly believable prove nothing against one that is: the better known one is believed.
            self._accept(case, max(case.answers, key=lambda one: self._weight(case, one)))
        elif agree:
            case.how.append("compared")
            # Should both turn out to lie, this one is asked again as well.
            self._unchecked.add(case.slot, agree[0].provider)
            for one, other in ((agree[0], last), (last, agree[0])):
                self._agreed.setdefault(one.provider, deque(maxlen=LATELY)).append(other.provider)
                self._note(one, Seen.PASSED, now, by=other.provider)
            for answer in case.answers:
                if answer is not last and answer not in agree:
                    self._note(answer, Seen.LOST, now, "two others agreed on another answer")
            self._accept(case, agree[0])
        elif all(same(case.asked, answer, last) is None for answer in case.answers[:-1]):
            self._incomparable(case, first, last, now)
        elif len(case.answers) > 2 or not self._second(case):
            self._settle(case, now)

    def _weight(self, case: _Case, answer: Answer) -> tuple[float, bool]:
        return self._reputation.trust(answer.provider), not doubts_of(case.asked, answer)

    def _incomparable(self, case: _Case, first: Answer, last: Answer, now: float) -> None:
        """Other weights, or chance: only what is hardly believable loses to what is."""
        if case.doubts and not doubts_of(case.asked, last):
            self._note(first, Seen.DOUBTFUL, now, case.doubts[0].value)
            self._accept(case, last)
        else:
            self._leave(case, now)

    def _settle(self, case: _Case, now: float) -> None:
        """No further opinion is to be had."""
        if case.asked.votes > 1:
            self._vote(case, now, last=True)
        elif len(case.answers) == 1:
            self._leave(case, now)
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
            winners = [answer for answer, value in zip(case.answers, said, strict=True) if value == winner]
            for n, answer in enumerate(winners):
                self._note(answer, Seen.PASSED, now, by=winners[n - 1].provider)
            for answer in case.answers:
                if answer not in winners:
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

    def _leave(self, case: _Case, now: float) -> None:
        answer = case.answers[0]
        if not case.doubts and not self._peers.draw(self._rng, ANY, 1, case.tried):
            self._note(answer, Seen.ALONE, now)
        self._unchecked.add(case.slot, answer.provider)
        self._accept(case, answer)

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

    def _note(self, answer: Answer, seen: Seen, now: float, detail: str = "", *, by: str | None = None) -> None:
        self._book(answer.provider, seen, now, detail, by)

    def _book(self, provider: str, seen: Seen, now: float, detail: str, by: str | None = None) -> None:
        before = self._reputation.width(provider, now)
        caught = self._reputation.note(provider, seen, now, detail)
        self._doubted.discard(provider)
        if seen is Seen.PASSED:
            self._unchecked.passed(provider, by)
        elif caught:
            slots, others = self._unchecked.caught(provider)
            self._doubted |= others - self._reputation.own
            self._ask_again(provider, slots)
            for other in others:
                if self._reputation.is_out(other, now):
                    self._ask_again(other, self._unchecked.caught(other)[0])
        if caught or self._reputation.width(provider, now) != before:
            self._out.append(Changed(provider))

    def _ask_again(self, provider: str, slots: tuple[int, ...]) -> None:
        if slots:
            self._out.append(Again(slots, provider))

    def _take(self) -> list[Command]:
        out, self._out = self._out, []
        return out


def _key(answer: Answer) -> str:
    return repr(value_of(answer.text))
