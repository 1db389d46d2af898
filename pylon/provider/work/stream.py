"""Sends an answer to its customer in pieces while the engine makes it."""

from functools import partial

from pylon.clock import Clock
from pylon.inference.engine import Progress
from pylon.money.accounts.usage import Usage
from pylon.provider.journal import Journal
from pylon.provider.queue import Job
from pylon.provider.replies import Replies
from pylon.provider.work.pieces import Piece, Pieces

# The least time between two pieces, in seconds.
PARTIAL_EVERY_S = 0.5


class Stream:
    """The pieces of one job. How much was sent is journaled: the customer owes that if it takes the job back."""

    def __init__(self, job: Job, *, journal: Journal, replies: Replies, clock: Clock) -> None:
        self._job = job
        self._journal = journal
        self._replies = replies
        self._clock = clock
        self._pieces = Pieces(PARTIAL_EVERY_S)

    @property
    def sent(self) -> Usage | None:
        """How much of the answer relays have; None before the first piece."""
        return self._pieces.sent

    def goes_on(self, step: Progress) -> bool:
        """Sends the next piece of the answer so far, if one is due. Returns whether one was."""
        piece = self._pieces.next(step, self._clock.monotonic())
        if piece is None:
            return False
        job = self._job
        taken = partial(self._taken, piece)
        self._replies.partial(job.request, job.relay, piece.text, piece.offset, job.terms.expires_at, taken)
        return True

    def _taken(self, piece: Piece) -> None:
        before = self.sent
        self._pieces.taken(piece)
        # Nothing is owed for a free job.
        if self._job.terms.quote and self.sent is not None and self.sent != before:
            self._journal.sent(self._job.id, self.sent)
