"""An answer on its way in pieces, and how much of it its customer has been sent: what it pays for if it takes the job
back.

A piece counts when a relay has it, and so does every piece before it: what one lacks in between nobody can read on.
"""

from collections import deque
from dataclasses import dataclass

from pylon.inference.engine import Progress
from pylon.money.accounts.usage import Usage
from pylon.text import clean_text


@dataclass(slots=True, eq=False)
class Piece:
    """The part of an answer that starts at character `offset`, and the tokens of all that was sent by then."""

    offset: int
    text: str
    sent: Usage
    taken: bool = False


class Pieces:
    """Pure: time is given, in seconds of the monotonic clock. At most one piece goes out in `every_s` seconds."""

    def __init__(self, every_s: float) -> None:
        # Tokens of the prompt, 0 where the engine does not say, and of what was sent.
        self.sent: Usage | None = None
        self._every_s = every_s
        self._next_at = 0.0
        self._text = ""
        self._bytes = 0
        self._on_their_way: deque[Piece] = deque()

    def next(self, step: Progress, now: float) -> Piece | None:
        """What is to be sent now, if anything is: `step` has the whole text so far."""
        if now < self._next_at:
            return None
        # Offsets count the characters that arrive, so the text is cleaned before it is cut.
        text = clean_text(step.text)
        # An engine that died leaves its job to the next, which may write another text: what does not go on from the
        # pieces that are out is in the result alone.
        if len(text) <= len(self._text) or not text.startswith(self._text):
            return None
        offset, added = len(self._text), text[len(self._text) :]
        self._text, self._next_at = text, now + self._every_s
        self._bytes += len(added.encode())
        # What is held back because it may turn out to be a stop string was not sent; a token has at least a byte.
        piece = Piece(offset, added, Usage(step.prompt_tokens, min(step.completion_tokens, self._bytes)))
        self._on_their_way.append(piece)
        return piece

    def taken(self, piece: Piece) -> None:
        """A relay has it."""
        piece.taken = True
        while self._on_their_way and self._on_their_way[0].taken:
            self.sent = self._on_their_way.popleft().sent
