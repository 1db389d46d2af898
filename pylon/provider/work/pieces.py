"""Cuts an answer into pieces while it is made, and counts how much of it the customer has been sent.

The customer pays for that much if it takes the job back. A piece counts once relays have it and every piece before
it: text behind a gap cannot be read.
"""

from collections import deque
from dataclasses import dataclass

from pylon.inference.engine import Progress
from pylon.money.accounts.usage import Usage
from pylon.text import clean_text


@dataclass(slots=True, eq=False)
class Piece:
    """The part of an answer that starts at character `offset`, and the tokens of the answer up to its end."""

    offset: int
    text: str
    sent: Usage
    taken: bool = False


class Pieces:
    """Pure: the time is passed in, in seconds of a monotonic clock. At most one piece is due in `every_s` seconds."""

    def __init__(self, every_s: float) -> None:
        # The tokens of the prompt (0 if the engine does not say) and of the pieces that count; None if none does.
        self.sent: Usage | None = None
        self._every_s = every_s
        self._next_at = 0.0
        self._text = ""
        self._bytes = 0
        self._on_their_way: deque[Piece] = deque()

    def next(self, step: Progress, now: float) -> Piece | None:
        """The next piece, if one is due. `step` has the whole text so far."""
        if now < self._next_at:
            return None
        # Offsets count characters of the text that customers receive, which is the cleaned one.
        text = clean_text(step.text)
        # If an engine dies, the next one may write another text. What does not continue the sent pieces is only in
        # the result.
        if len(text) <= len(self._text) or not text.startswith(self._text):
            return None
        offset, added = len(self._text), text[len(self._text) :]
        self._text, self._next_at = text, now + self._every_s
        self._bytes += len(added.encode())
        # The engine may have made tokens that are not in the text yet, as they may begin a stop string. They are not
        # charged: a token has at least one byte.
        piece = Piece(offset, added, Usage(step.prompt_tokens, min(step.completion_tokens, self._bytes)))
        self._on_their_way.append(piece)
        return piece

    def taken(self, piece: Piece) -> None:
        """Notes that a relay has this piece."""
        piece.taken = True
        while self._on_their_way and self._on_their_way[0].taken:
            self.sent = self._on_their_way.popleft().sent
