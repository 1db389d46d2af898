"""What follows from the opinions on an answer: accept it, ask for more, and what is noted of its provider."""

from pylon.swarm.checks.case import Case
from pylon.swarm.checks.evidence import Evidence
from pylon.swarm.checks.examination import Examination
from pylon.swarm.checks.open_cases import OpenCases
from pylon.swarm.checks.reputation import Seen
from pylon.swarm.checks.ruling import Note, Ruling, compare, settle, vote
from pylon.swarm.checks.witnesses import Witnesses


class Conclusions:
    """See the module. Times are Unix seconds."""

    def __init__(self, cases: OpenCases, examination: Examination, evidence: Evidence, witnesses: Witnesses) -> None:
        self._cases = cases
        self._examination = examination
        self._evidence = evidence
        self._reputation = evidence.reputation
        self._witnesses = witnesses

    def decide(self, case: Case, now: float) -> None:
        """One more opinion has come."""
        if case.asked.votes > 1:
            if not case.waiting:
                self.vote(case, now)
            return
        first, last = case.first, case.answers[-1]
        # The answer of a provider that was caught meanwhile does not count.
        case.answers = [answer for answer in case.answers if not self._reputation.is_out(answer.provider, now)]
        if first not in case.answers:
            self._cases.deliver(case, last)
            return
        ruling = compare(case, self._reputation)
        if ruling.chosen is not None:
            self._follow(case, ruling, now)
        elif len(case.answers) > 2 or not self._examination.second(case):
            self.settle(case, now)

    def settle(self, case: Case, now: float) -> None:
        """Decides a case on which no further opinion can be had."""
        if case.asked.votes > 1:
            self.vote(case, now, last=True)
            return
        if len(case.answers) == 1:
            self.leave(case, now)
        else:
            self._follow(case, settle(case, self._reputation), now)

    def vote(self, case: Case, now: float, *, last: bool = False) -> None:
        """Counts the votes on a job that asked for some, and has more providers asked while a majority is
        possible."""
        ruling = vote(case, last=last)
        to = self._witnesses.whom(case) if ruling.wanted else ()
        for n in range(min(ruling.wanted, len(to))):
            # Each goes to different providers, so that none votes twice.
            self._examination.ask(case, to[n :: ruling.wanted])
        if not case.waiting:
            self._follow(case, ruling if ruling.chosen is not None else vote(case, last=True), now)

    def leave(self, case: Case, now: float) -> None:
        """Delivers a single answer on which no other opinion can be had."""
        if not case.doubts and self._witnesses.is_alone(case):
            self.note(Note(case.first, Seen.ALONE), now)
        self._cases.deliver(case, case.first)

    def note(self, note: Note, now: float) -> None:
        """Books for or against its provider what an answer turned out to be."""
        provider = note.answer.provider
        self._cases.out += self._evidence.note(provider, note.seen, now, note.detail, note.by)
        if note.seen is Seen.PASSED:
            self._witnesses.agreed(provider, note.by)
        if not self._reputation.is_out(provider, now):
            self._examination.look_back(provider)

    def _follow(self, case: Case, ruling: Ruling, now: float) -> None:
        chosen = ruling.chosen or case.first
        self._cases.close(case)
        for note in ruling.notes:
            self.note(note, now)
        by = next((note.by for note in ruling.notes if note.answer is chosen), ())
        if not by:
            self._cases.deliver(case, chosen)
            return
        case.how.append(ruling.how)
        self._cases.confirm(case, chosen, by[0])
