"""Second opinions that are asked for beside the question itself, before it is answered.

Whoever waits for an answer before it asks somebody else waits twice, and the last answers of a run, or all of a small
one, are what its caller waits for. So towards the end those on their way are drawn from as their answers would have
been: for anybody while a few jobs still wait, so that the run does not end with them, and for idle machines alone
when none does. Nothing on the wire marks either of the two.
"""

import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from pylon.swarm.allowance import Allowance
from pylon.swarm.check_moves import Ask
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.selection import Selection
from pylon.swarm.verification import Doubt
from pylon.swarm.witnesses import Witnesses


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


class Beside:
    """See the module. A slot is drawn once."""

    def __init__(self, allowance: Allowance, selection: Selection, witnesses: Witnesses, rng: random.Random) -> None:
        self._allowance = allowance
        self._selection = selection
        self._witnesses = witnesses
        self._rng = rng
        # None: it was not drawn.
        self._early: dict[int, Early | None] = {}

    def __contains__(self, slot: int) -> bool:
        """Whether the slot was looked at, and its answer has not come."""
        return slot in self._early

    def ask(
        self,
        questions: Sequence[Question],
        holds: Collection[str],
        final: Collection[int],
        may: Callable[[str], bool] | None,
    ) -> list[Ask]:
        """The second opinions on these that are asked for now, of those who `may` be asked (None: of all).

        `holds` are weights that we can read answers of, `final` runs whose answers stay.
        """
        fresh = [question for question in questions if question.slot not in self._early]
        # Their places in the run must not say which of them are drawn.
        self._rng.shuffle(fresh)
        with self._allowance.ahead(len(fresh)):
            drawn = [self._ask(question, holds, final, may) for question in fresh]
        return [ask for ask in drawn if ask is not None]

    def _ask(
        self,
        question: Question,
        holds: Collection[str],
        final: Collection[int],
        may: Callable[[str], bool] | None,
    ) -> Ask | None:
        provider, asked = question.provider, question.asked
        weights = self._witnesses.weights(provider, asked.model)
        if asked.votes > 1 or weights in holds:
            return None
        early = Early(provider, asked, weights, {provider})
        to = self._selection.beside(early, may, final=question.run in final)
        if to is None:
            self._early[question.slot] = None
        if not to:
            return None
        self._early[question.slot] = early
        self._witnesses.opened(provider)
        return Ask(question.slot, to, None)

    def heard(self, slot: int, opinion: Answer | None) -> bool:
        """The other's word, or that there will be none; whether the question itself is still unanswered."""
        early = self._early.get(slot)
        if early is None:
            return False
        early.waiting, early.opinion = False, opinion
        return True

    def take(self, slot: int) -> Early | None:
        """The slot's question was answered: what was asked beside it."""
        early = self._early.pop(slot, None)
        if early is not None:
            self._witnesses.closed(early.provider)
        return early

    def closed(self, slots: Iterable[int]) -> None:
        """These are not asked any more."""
        for slot in slots:
            self.take(slot)
