"""A case: an answer under examination, and the opinions on it."""

from dataclasses import dataclass, field

from pylon.swarm.checks.verification import Doubt
from pylon.swarm.job import Answer, JobSpec

# A second opinion may take so many times as long as the first answer did, and at least LEAST_S seconds.
PATIENCE, LEAST_S = 4.0, 5.0


@dataclass(slots=True, eq=False)
class Case:
    """`first` is the answer under examination, `answers` are all that came and still count, in order.

    `tried` are the providers that have had the question. `waiting` further answers are in flight, `unanswered`
    requests brought none; `how` names the checks that the answer has passed.
    """

    slot: int
    asked: JobSpec
    doubts: tuple[Doubt, ...]
    first: Answer
    run: int
    answers: list[Answer] = field(init=False)
    tried: set[str] = field(default_factory=set)
    waiting: int = 0
    unanswered: int = 0
    how: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.answers = [self.first]
        self.tried.add(self.first.provider)

    @property
    def provider(self) -> str:
        """The provider whose answer is examined."""
        return self.first.provider

    @property
    def patience_s(self) -> float:
        """How many seconds another opinion is waited for."""
        return max(LEAST_S, PATIENCE * self.first.latency_ms / 1_000)

    @property
    def weights(self) -> str:
        """The hash of the weights that the answer names; empty when it names none."""
        return self.first.sha256
