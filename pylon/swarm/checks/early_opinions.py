"""Second opinions that are asked for beside the question itself, before it is answered.

Whoever waits for an answer before it asks somebody else waits twice, and the last answers of a run are what its
caller waits for. So while the last jobs wait, those on their way are drawn from as their answers would have been, and
the run does not end with its checks. Nothing on the wire marks either of the two.
"""

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from pylon.latest import Latest
from pylon.swarm.checks.allowance import Allowance
from pylon.swarm.checks.commands import Ask
from pylon.swarm.checks.selection import Selection
from pylon.swarm.checks.verification import Doubt
from pylon.swarm.checks.witnesses import Witnesses
from pylon.swarm.job import Answer, JobSpec

# So many of those that left a question to others are remembered.
_MOST_OWED = 10_000


@dataclass(frozen=True, slots=True)
class Question:
    """What a slot asks, of whom."""

    run: int
    slot: int
    asked: JobSpec
    provider: str


@dataclass(slots=True, eq=False)
class Early:
    """A question that two providers have. `weights` are those that the first names; `opinion` is the other's word.

    What a `Case` has in its answers and doubts is not there yet.
    """

    provider: str
    asked: JobSpec
    weights: str
    tried: set[str]
    waiting: bool = True
    opinion: Answer | None = None
    answers: Sequence[Answer] = field(default=(), init=False)
    doubts: Sequence[Doubt] = field(default=(), init=False)


class EarlyOpinions:
    """See the module."""

    def __init__(self, allowance: Allowance, selection: Selection, witnesses: Witnesses, rng: random.Random) -> None:
        self._allowance = allowance
        self._selection = selection
        self._witnesses = witnesses
        self._rng = rng
        # None: it was not drawn.
        self._early: dict[int, Early | None] = {}
        # Who left a question that was drawn to others.
        self._owed: Latest[str, None] = Latest(_MOST_OWED)

    def passed_over(self, slot: int) -> bool:
        """Whether a slot was drawn from on its way, and nobody else was asked."""
        return slot in self._early and self._early[slot] is None

    def ask(
        self, questions: Iterable[Question], waiting: int, holds: Collection[str], final: Collection[int]
    ) -> list[Ask]:
        """The second opinions on these that are asked for now; so many jobs like them still wait.

        `holds` are weights that we can read answers of, `final` runs whose answers stay.
        """
        fresh = list(questions)
        # Their places in the run must not say which of them are drawn.
        self._rng.shuffle(fresh)
        self._allowance.ahead(len(fresh), waiting, {question.run for question in fresh})
        drawn = [self._ask(question, holds, final=question.run in final) for question in fresh]
        return [ask for ask in drawn if ask is not None]

    def heard(self, slot: int, opinion: Answer | None) -> None:
        """The other's word, or that there will be none."""
        early = self._early.get(slot)
        if early is not None:
            early.waiting, early.opinion = False, opinion

    def take(self, slot: int) -> Early | None:
        """A slot's question was answered: what was asked beside it."""
        return self._early.pop(slot, None)

    def moved_on(self, slot: int) -> None:
        """A slot's question went to somebody else, or to nobody."""
        early = self._early.pop(slot, None)
        if early is not None:
            self._owed.put(early.provider, None)

    def owes(self, provider: str) -> bool:
        """Whether it got round being examined, so that this answer of its must be."""
        owes = provider in self._owed
        self._owed.pop(provider)
        return owes

    def closed(self, slots: Iterable[int]) -> None:
        """These are not asked any more."""
        for slot in slots:
            self._early.pop(slot, None)

    def gone(self, provider: str) -> None:
        """A provider left."""
        self._owed.pop(provider)

    def _ask(self, question: Question, holds: Collection[str], *, final: bool) -> Ask | None:
        provider, asked = question.provider, question.asked
        weights = self._witnesses.weights(provider, asked.model)
        if asked.votes > 1 or weights in holds:
            return None
        early = Early(provider, asked, weights, {provider})
        to = self._selection.beside(early, final=final)
        self._early[question.slot] = early if to else None
        return Ask(question.slot, to, None) if to else None
