"""The text of one answer as its tokens come, ended by a stop string wherever that falls among them."""

from collections.abc import Sequence
from typing import Protocol

from pylon.inference.stops import find_stop, settled


class Detokenizer(Protocol):
    """mlx_lm's streaming detokenizers: `text` holds whole characters only."""

    @property
    def text(self) -> str: ...

    def add_token(self, token: int) -> None: ...

    def finalize(self) -> None: ...


class Answer:
    def __init__(self, detokenizer: Detokenizer, stops: Sequence[str]) -> None:
        self._detokenizer = detokenizer
        self._stops = stops
        self._searched = 0
        self._cut: int | None = None
        self._text = ""
        self.tokens = 0

    def add(self, token: int) -> bool:
        """Whether a stop string is complete now; then no further token belongs to the answer."""
        self.tokens += 1
        self._detokenizer.add_token(token)
        return self._search()

    def end(self) -> bool:
        """Takes in what was held back for a character that never became whole; whether that completes a stop."""
        if self._cut is None:
            self._detokenizer.finalize()
            self._search()
        return self._cut is not None

    @property
    def text(self) -> str:
        """All of it up to the stop string."""
        return self._text[: self._cut]

    @property
    def shown(self) -> str:
        """The part that will stay whatever comes next."""
        return self.text if self._cut is not None else self._text[: settled(self._text, self._stops)]

    def _search(self) -> bool:
        self._text = self._detokenizer.text
        self._cut = find_stop(self._text, self._stops, self._searched)
        self._searched = len(self._text)
        return self._cut is not None
