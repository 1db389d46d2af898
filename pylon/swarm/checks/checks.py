"""Which answers are checked, how, and what follows for the answer and its provider. Values in, decisions out.

An answer that is to be checked is held back meanwhile. It is re-scored where this customer holds the same model.
Otherwise its question goes to a second provider as one more job of the same run, which nothing marks, and to a third
if the two differ. Each comparison checks both sides. What checks cost in further jobs is bounded by a share of the
run's jobs; only what must be decided (two answers that differ, an answer that is hardly believable) may exceed it.
Every provider is checked once before any is checked twice: a second comparison of the same provider could be the one
that would have caught a liar.

When a provider loses a comparison, its latest answers are examined once more. When it turns out to lie, all its
answers in open runs that no check confirmed are asked again.
"""

import random
from collections.abc import Iterable

from pylon.swarm.checks.allowance import Allowance
from pylon.swarm.checks.case import Case
from pylon.swarm.checks.commands import CheckCommand, Wait
from pylon.swarm.checks.conclusions import Conclusions
from pylon.swarm.checks.early_opinions import Early, EarlyOpinions, Question
from pylon.swarm.checks.evidence import Evidence
from pylon.swarm.checks.examination import Examination
from pylon.swarm.checks.open_cases import OpenCases
from pylon.swarm.checks.reputation import Reputation, Seen
from pylon.swarm.checks.ruling import Note
from pylon.swarm.checks.selection import Selection
from pylon.swarm.checks.verification import Verdict, doubts_of
from pylon.swarm.checks.witnesses import Witnesses
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.providers.directory import Change, ProviderUp
from pylon.swarm.settings import CheckSettings

# How often a comparison is asked for that nobody answers.
TRIES = 2


class Checks:
    """See the module. `examination.holds` is set from outside: the models that can be asked on this machine."""

    def __init__(self, settings: CheckSettings, reputation: Reputation, rng: random.Random) -> None:
        self._reputation = reputation
        self._evidence = Evidence(reputation)
        self._unchecked = self._evidence.unchecked
        self._witnesses = Witnesses(self._evidence, rng)
        self._cases = OpenCases(self._witnesses, self._unchecked)
        self._allowance = Allowance(settings.share)
        self._selection = Selection(self._allowance, self._evidence, self._witnesses, rng)
        self._early_opinions = EarlyOpinions(self._allowance, self._selection, self._witnesses, rng)
        self.examination = Examination(self._cases, self._selection, self._unchecked)
        self._conclusions = Conclusions(self._cases, self.examination, self._evidence, self._witnesses)

    def observe(self, change: Change) -> None:
        """A provider appeared, changed or left."""
        if isinstance(change, ProviderUp):
            self._witnesses.put(change.listing)
        else:
            self._witnesses.remove(change.provider)
            self._evidence.gone(change.provider)
            self._early_opinions.gone(change.provider)

    def added(self, run: int, jobs: int, *, final: bool = False) -> None:
        """A run of so many jobs began; with `final`, what was delivered is never asked again."""
        self._allowance.added(run, jobs)
        if final:
            self._cases.final.add(run)

    def taken_up(self, run: int, answered: int, asked: int) -> None:
        """A run that has just begun was taken up: an earlier process had so many answers, and asked so many
        opinions."""
        self._allowance.taken_up(run, answered, asked)

    def closed(self, run: int, slots: Iterable[int]) -> None:
        """A run ended: its slots cannot be asked again."""
        self._allowance.ended(run)
        self._cases.final.discard(run)
        slots = tuple(slots)
        self._cases.closed(slots)
        self._early_opinions.closed(slots)
        self._unchecked.closed(slots)

    def beside(self, questions: Iterable[Question], waiting: int) -> list[CheckCommand]:
        """Picks which of these questions, all in flight, are asked of a second provider too; `waiting` jobs are
        left."""
        asks = self._early_opinions.ask(questions, waiting, self.examination.holds, self._cases.final)
        self.examination.asked += len(asks)
        return list(asks)

    def answered(self, run: int, slot: int, asked: JobSpec, answer: Answer, now: float) -> list[CheckCommand]:
        """A slot has an answer without a fault. Exactly one `Accept` or `Again` for it follows, now or later."""
        self._allowance.answered(run)
        provider = answer.provider
        passed_over = self._early_opinions.passed_over(slot)
        early = self._early_opinions.take(slot)
        case = Case(slot, asked, doubts_of(asked, answer), answer, run)
        if self._reputation.is_out(provider, now):
            # Its provider was caught while this answer was on its way.
            self._cases.again(case)
        elif asked.votes > 1:
            self._cases.open(case)
            self._conclusions.vote(case, now)
        elif early is None or not self._join(case, early, now):
            self._consider(case, now, passed_over=passed_over)
        return self._cases.take()

    def came(self, provider: str, now: float) -> None:
        """An answer without a fault came from this provider, whatever checks may still find."""
        self._reputation.answered(provider, now)

    def moved_on(self, slot: int) -> None:
        """A slot that was in flight has gone to another provider, or is given up."""
        self._early_opinions.moved_on(slot)

    def scored(self, slot: int, verdict: Verdict, now: float) -> list[CheckCommand]:
        """Our own model has scored the answer in this slot."""
        case = self._cases.get(slot)
        if case is None or case.waiting:
            return []
        answer = case.first
        if verdict is not Verdict.UNCLEAR:
            self._cases.close(case)
        if verdict is Verdict.PASSED:
            case.how.append("rescored")
            self._conclusions.note(Note(answer, Seen.PASSED), now)
            self._cases.accept(case, answer)
        elif verdict is Verdict.FAILED:
            self._conclusions.note(
                Note(answer, Seen.FORGED, "its stated model, loaded here, would not have written this"), now
            )
            self._cases.again(case)
        elif not self.examination.second(case):
            self._conclusions.leave(case, now)
        return self._cases.take()

    def second(self, slot: int, answer: Answer, now: float) -> list[CheckCommand]:
        """Another provider has answered this slot's question."""
        case = self._cases.get(slot)
        if case is None:
            self._early_opinions.heard(slot, answer)
            return []
        case.tried.add(answer.provider)
        if not self._counts(case, answer, now):
            return self.no_second(slot, now)
        case.waiting -= 1
        case.answers.append(answer)
        self._conclusions.decide(case, now)
        return self._cases.take()

    def no_second(self, slot: int, now: float) -> list[CheckCommand]:
        """Nobody gave a second answer to this slot's question."""
        case = self._cases.get(slot)
        if case is None:
            self._early_opinions.heard(slot, None)
        else:
            case.waiting -= 1
            case.unanswered += 1
            again = case.asked.votes <= 1 and case.unanswered < TRIES and self.examination.second(case)
            if not case.waiting and not again:
                self._conclusions.settle(case, now)
        return self._cases.take()

    def note(self, provider: str, seen: Seen, now: float, detail: str) -> list[CheckCommand]:
        """Books something that was seen of a provider without a check, such as a fault."""
        return self._evidence.note(provider, seen, now, detail)

    def _consider(self, case: Case, now: float, *, passed_over: bool) -> None:
        """Has the answer examined, or accepts it as it is.

        `passed_over`: while it was in flight a draw decided against a second opinion.
        """
        free, final = case.weights in self.examination.holds, case.run in self._cases.final
        if self._early_opinions.owes(case.provider):
            wanted = True
        elif passed_over and self._selection.is_by_turns(case):
            wanted = False
        else:
            wanted = self._selection.wants(case, free=free, final=final)
        if not wanted:
            self._cases.deliver(case, case.first)
        elif not self.examination.begin(case):
            self._conclusions.leave(case, now)

    def _join(self, case: Case, early: Early, now: float) -> bool:
        """Joins an answer and the second opinion that was asked for early; whether that opinion is of use."""
        if early.waiting:
            case.waiting = 1
            self._cases.open(case)
            self._cases.out.append(Wait(case.slot, case.patience_s))
            return True
        opinion = early.opinion
        if opinion is None or not self._counts(case, opinion, now):
            return False
        case.tried.add(opinion.provider)
        case.answers.append(opinion)
        self._cases.open(case)
        self._conclusions.decide(case, now)
        return True

    def _counts(self, case: Case, opinion: Answer, now: float) -> bool:
        """Whether an opinion counts: it is not by the answer's own provider, nor by one that was caught."""
        return opinion.provider != case.provider and not self._reputation.is_out(opinion.provider, now)
