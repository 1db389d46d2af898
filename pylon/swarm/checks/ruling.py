"""Rulings: which of several answers to one question stands, and what is noted of the providers. Pure functions."""

from collections import Counter
from dataclasses import dataclass

from pylon.swarm.checks.case import Case
from pylon.swarm.checks.reputation import Reputation, Seen
from pylon.swarm.checks.verification import doubts_of, same, value_of
from pylon.swarm.job import Answer


@dataclass(frozen=True, slots=True)
class Note:
    """What an answer turned out to be; `by` names the providers whose answers say so."""

    answer: Answer
    seen: Seen
    detail: str = ""
    by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ruling:
    """`chosen` is the answer that stands, by the check `how`. None: `wanted` more answers are needed."""

    chosen: Answer | None
    notes: tuple[Note, ...] = ()
    how: str = ""
    wanted: int = 0


def compare(case: Case, reputation: Reputation) -> Ruling:
    """Compares two or three answers, of which the last has just come."""
    first, last = case.first, case.answers[-1]
    agree = [answer for answer in case.answers[:-1] if same(case.asked, answer, last)]
    if agree and doubts_of(case.asked, last) and not all(doubts_of(case.asked, one) for one in case.answers):
        # Two answers that are hardly believable prove nothing against one that is: the best known provider is
        # believed.
        return Ruling(max(case.answers, key=lambda one: _weight(case, one, reputation)))
    if agree:
        passed = [Note(one, Seen.PASSED, by=(other.provider,)) for one, other in ((agree[0], last), (last, agree[0]))]
        lost = [
            Note(
                answer,
                Seen.LOST,
                "two other providers agreed on a different answer",
                (agree[0].provider, last.provider),
            )
            for answer in case.answers
            if answer is not last and answer not in agree
        ]
        return Ruling(agree[0], (*passed, *lost), "compared")
    if all(same(case.asked, answer, last) is None for answer in case.answers[:-1]):
        # Other weights, or sampling: the answers cannot be compared, and only a hardly believable one loses.
        if case.doubts and not doubts_of(case.asked, last):
            return Ruling(last, (Note(first, Seen.DOUBTFUL, case.doubts[0].value),))
        return Ruling(first)
    return Ruling(None, wanted=1)


def settle(case: Case, reputation: Reputation) -> Ruling:
    """Rules on answers that differ when nobody else can be asked: the best known provider is believed."""
    best = max(case.answers, key=lambda answer: reputation.trust(answer.provider))
    notes = tuple(
        Note(other, Seen.LOST, "a better known provider gave a different answer", (best.provider,))
        for other in case.answers
        if len(case.answers) == 2 and reputation.is_proven(best.provider) and not reputation.is_proven(other.provider)
    )
    return Ruling(best, notes)


def vote(case: Case, *, last: bool) -> Ruling:
    """Rules by majority. `last`: nobody else can be asked."""
    votes, enough = case.asked.votes, case.asked.votes // 2 + 1
    said = [repr(value_of(answer.text)) for answer in case.answers]
    [(winner, count)] = Counter(said).most_common(1)
    winners = [answer for answer, value in zip(case.answers, said, strict=True) if value == winner]
    if count >= enough:
        passed = [Note(one, Seen.PASSED, by=(winners[n - 1].provider,)) for n, one in enumerate(winners)]
        against = tuple(winner.provider for winner in winners)
        lost = [
            Note(answer, Seen.LOST, f"{count} of {len(said)} gave a different answer", against)
            for answer in case.answers
            if answer not in winners
        ]
        return Ruling(winners[0], (*passed, *lost), "majority")
    wanted = 0 if last else min(enough - count, votes - len(case.answers))
    return Ruling(None if wanted or case.waiting else winners[0], wanted=wanted)


def _weight(case: Case, answer: Answer, reputation: Reputation) -> tuple[float, bool]:
    return reputation.trust(answer.provider), not doubts_of(case.asked, answer)
