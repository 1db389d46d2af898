"""Second opinions that are asked for while the question itself is still in flight.

Asking for a second opinion only once the answer is there takes twice as long, and the caller waits for the last
answers of a run. So while a run's last jobs wait to be sent, questions in flight are drawn for a check as their
answers would be later, and the run does not have to wait for its checks at the end. Nothing on the wire marks either
request.
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

# How many providers that owe a checked answer are remembered.
_MOST_OWED = 10_000


@dataclass(frozen=True, slots=True)
class Question:
    """A question in flight: what this slot asks, and which provider it was sent to."""

    run: int
    slot: int
    asked: JobSpec
    provider: str


@dataclass(slots=True, eq=False)
class Early:
    """A question that two providers have at once. `weights` is the hash that the first names; `opinion` is the second
    provider's answer.

    The answers and doubts that a `Case` has are empty here, since no answer has come yet.
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
        # By slot; None for a slot that was considered and not drawn.
        self._early: dict[int, Early | None] = {}
        # Providers that gave up a question which was drawn for a check: their next answer is checked instead.
        self._owed: Latest[str, None] = Latest(_MOST_OWED)

    def passed_over(self, slot: int) -> bool:
        """Whether this slot was considered while in flight, and no second provider was asked."""
        return slot in self._early and self._early[slot] is None

    def ask(
        self, questions: Iterable[Question], waiting: int, holds: Collection[str], final: Collection[int]
    ) -> list[Ask]:
        """Picks the second opinions to ask for now. `waiting` jobs of the same need are still to be sent.

        `holds` are the weights of models that can score answers here, `final` the runs whose delivered answers stay.
        """
        fresh = list(questions)
        # Which of them are drawn must not depend on their places in the run.
        self._rng.shuffle(fresh)
        self._allowance.ahead(len(fresh), waiting, {question.run for question in fresh})
        drawn = [self._ask(question, holds, final=question.run in final) for question in fresh]
        return [ask for ask in drawn if ask is not None]

    def heard(self, slot: int, opinion: Answer | None) -> None:
        """The second opinion on this slot came, or (None) will not come."""
        early = self._early.get(slot)
        if early is not None:
            early.waiting, early.opinion = False, opinion

    def take(self, slot: int) -> Early | None:
        """Removes and returns what was asked early for a slot that has now been answered."""
        return self._early.pop(slot, None)

    def moved_on(self, slot: int) -> None:
        """A slot's question went to another provider, or is given up."""
        early = self._early.pop(slot, None)
        if early is not None:
            self._owed.put(early.provider, None)

    def owes(self, provider: str) -> bool:
        """Whether a question that was drawn for a check was given up by this provider, so that this answer is
        checked.

        Asking clears the debt.
        """
        owes = provider in self._owed
        self._owed.pop(provider)
        return owes

    def closed(self, slots: Iterable[int]) -> None:
        """Forgets these slots: their run is over."""
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
