"""An answer under examination."""

from dataclasses import dataclass, field

from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.verification import Doubt


@dataclass(slots=True, eq=False)
class Case:
    """`answers` are those that came, the first one's own first; `tried` is who has had the question.

    `waiting` further answers are on their way, `unanswered` requests for one were in vain; `how` names what the
    answer has passed.
    """

    slot: int
    asked: JobSpec
    doubts: tuple[Doubt, ...]
    answers: list[Answer]
    run: int
    tried: set[str] = field(default_factory=set)
    waiting: int = 0
    unanswered: int = 0
    how: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tried.update(answer.provider for answer in self.answers)

    @property
    def first(self) -> Answer:
        """The answer that is examined."""
        return self.answers[0]
