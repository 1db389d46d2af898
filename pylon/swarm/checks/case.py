"""An answer under examination."""

from dataclasses import dataclass, field

from pylon.swarm.checks.verification import Doubt
from pylon.swarm.job import Answer, JobSpec

# A second opinion may take so many times as long as the first, and this at least: a run does not wait for more.
PATIENCE, LEAST_S = 4.0, 5.0


@dataclass(slots=True, eq=False)
class Case:
    """`first` is the answer that is examined, `answers` are those that came and still count, in their order.

    `tried` is who has had the question. `waiting` further answers are on their way, `unanswered` requests for one
    were in vain; `how` names what the answer has passed.
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
        """Whose answer is examined."""
        return self.first.provider

    @property
    def patience_s(self) -> float:
        """How long another opinion is waited for."""
        return max(LEAST_S, PATIENCE * self.first.latency_ms / 1_000)

    @property
    def weights(self) -> str:
        """The hash of the weights that it names; empty when it names none."""
        return self.first.sha256
