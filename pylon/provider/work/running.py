"""A job that runs: from when the engine gets it until its end is journaled."""

import asyncio
from dataclasses import dataclass
from enum import Enum, auto

from pylon.money.accounts.usage import Usage
from pylon.provider.queue import Job
from pylon.provider.work.stream import Stream


class Phase(Enum):
    """The phases of a job that runs, in their order."""

    COMPUTING = auto()
    # Its customer took it back, and the engine is being stopped.
    STOPPING = auto()
    # Its end is being journaled: it can no longer be taken back.
    WRITING = auto()


@dataclass(slots=True)
class Running:
    """A job and the task that runs it. Times are seconds of the monotonic clock."""

    job: Job
    task: asyncio.Task[None]
    phase: Phase = Phase.COMPUTING
    # Sends the answer in pieces, if the customer asked for that.
    stream: Stream | None = None
    # How long it had waited (a duration); when the engine got it, and when it had the whole answer.
    queued_s: float = 0.0
    began: float = 0.0
    answered: float = 0.0

    @property
    def sent(self) -> Usage | None:
        """How much of its answer was sent, by this process or an earlier one."""
        return self.job.sent if self.stream is None else self.stream.sent
