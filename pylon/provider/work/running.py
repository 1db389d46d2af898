"""A job from when the engine gets it until its end is written down."""

import asyncio
from dataclasses import dataclass
from enum import Enum, auto

from pylon.money.accounts.usage import Usage
from pylon.provider.queue import Job
from pylon.provider.work.stream import Stream


class Phase(Enum):
    """How far a job is that the engine was given. There is no way back."""

    COMPUTING = auto()
    # Its customer took it back, and the engine is told.
    STOPPING = auto()
    # Its answer, or that there is none, is being written down: it is too late to take it back.
    WRITING = auto()


@dataclass(slots=True)
class Running:
    """A job and the task that runs it. Times are seconds of the monotonic clock."""

    job: Job
    task: asyncio.Task[None]
    phase: Phase = Phase.COMPUTING
    # What its customer is sent of an answer while that is made, where it wishes so.
    stream: Stream | None = None
    # How long it had waited, and when the engine got it and gave the whole answer.
    queued_s: float = 0.0
    began: float = 0.0
    answered: float = 0.0

    @property
    def sent(self) -> Usage | None:
        """How much of its answer its customer has been sent, by this process or an earlier one."""
        return self.job.sent if self.stream is None else self.stream.sent
