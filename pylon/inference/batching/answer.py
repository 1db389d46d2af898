"""The growing text of one answer, which ends before a stop string, wherever that lies among its tokens."""

from collections.abc import Sequence
from typing import Protocol

from pylon.inference.stops import find_stop, settled


class Detokenizer(Protocol):
    """A streaming detokenizer, as mlx_lm has them. `text` holds whole characters only."""

    @property
    def text(self) -> str: ...

    def add_token(self, token: int) -> None: ...

    def finalize(self) -> None: ...


class Answer:
    """One answer, to which tokens are added."""

    def __init__(self, detokenizer: Detokenizer, stops: Sequence[str]) -> None:
        self._detokenizer = detokenizer
        self._stops = stops
        self._searched = 0
        self._cut: int | None = None
        self._text = ""
        self.tokens = 0

    def add(self, token: int) -> bool:
        """Adds a token; whether a stop string is complete now, so that no further token belongs to the answer."""
        self.tokens += 1
        self._detokenizer.add_token(token)
        return self._search()

    def end(self) -> bool:
        """Ends the answer, with what was held back of an incomplete character; whether it ends at a stop string."""
        if self._cut is None:
            self._detokenizer.finalize()
            self._search()
        return self._cut is not None

    @property
    def text(self) -> str:
        """The text up to the stop string."""
        return self._text[: self._cut]

    @property
    def shown(self) -> str:
        """The part of the text that no further token can change."""
        return self.text if self._cut is not None else self._text[: settled(self._text, self._stops)]

    def _search(self) -> bool:
        self._text = self._detokenizer.text
        self._cut = find_stop(self._text, self._stops, self._searched)
        self._searched = len(self._text)
        return self._cut is not None
