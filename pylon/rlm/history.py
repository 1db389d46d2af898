"""Keeps the chat with a root model within its window. Pure.

The REPL holds all values; the chat holds only what was said and shown. When it outgrows its share of the window, the
oldest turns are shortened, and if that is not enough, left out, with a note that their variables are still there.
"""

import sys
from dataclasses import dataclass, replace

from pylon.rlm.root import Message, estimate_tokens

# The newest turns, which the root is working on, are shortened last.
KEPT_TURNS = 2
# The length to which older turns are shortened.
OLD_REPLY_CHARS = 400
OLD_SHOWN_CHARS = 300
LEFT_OUT = (
    "[Earlier turns are left out here. Variables that they made still stand in the REPL; SHOW_VARS() lists them.]"
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A turn: the root's reply and what it was shown, both complete, and how many characters of each the chat has."""

    reply: str
    shown: str
    reply_chars: int = sys.maxsize
    shown_chars: int = sys.maxsize

    @property
    def messages(self) -> list[Message]:
        # Always cut from the complete text: a cut of a cut would state the length of the first cut.
        reply, shown = cut(self.reply, self.reply_chars), cut(self.shown, self.shown_chars)
        return [Message("assistant", reply), Message("user", shown)]

    def shortened(self, reply_chars: int, shown_chars: int) -> "Exchange":
        """The same turn with at most so many characters of each in the chat."""
        return replace(
            self,
            reply_chars=min(self.reply_chars, reply_chars),
            shown_chars=min(self.shown_chars, shown_chars),
        )


class History:
    """The chat of one loop. `limit_tokens` bounds it; `compactions` counts how often it had to be shortened."""

    def __init__(self, system: str, task: str, *, limit_tokens: int) -> None:
        self.compactions = 0
        self._opening = [Message("system", system), Message("user", task)]
        self._exchanges: list[Exchange] = []
        self._left_out = False
        self._limit = limit_tokens
        # The model's own count of tokens divided by our estimate.
        self._ratio = 1.0

    def add(self, reply: str, shown: str, *, reply_chars: int = sys.maxsize) -> None:
        """Adds a turn. The chat has at most `reply_chars` characters of its reply."""
        self._exchanges.append(Exchange(reply, shown, reply_chars))

    def counted(self, prompt_tokens: int, messages: list[Message]) -> None:
        """Takes in the tokens that the model counted for a chat, to correct later estimates."""
        guess = estimate_tokens(messages)
        if prompt_tokens and guess:
            self._ratio = min(4.0, max(0.25, prompt_tokens / guess))

    def messages(self, most_tokens: int | None = None) -> list[Message]:
        """The chat to send, shortened permanently if necessary; `most_tokens` lowers the limit from here on."""
        if most_tokens is not None:
            self._limit = max(1, min(self._limit, most_tokens))
        if self._size() > self._limit:
            self.compactions += 1
            self._shorten()
        return self._chat()

    def _chat(self) -> list[Message]:
        chat = list(self._opening)
        if self._left_out:
            chat[1] = Message("user", f"{chat[1].content}\n\n{LEFT_OUT}")
        for exchange in self._exchanges:
            chat += exchange.messages
        return chat

    def _size(self) -> float:
        return estimate_tokens(self._chat()) * self._ratio

    def _shorten(self) -> None:
        for place in range(max(0, len(self._exchanges) - KEPT_TURNS)):
            self._exchanges[place] = self._exchanges[place].shortened(OLD_REPLY_CHARS, OLD_SHOWN_CHARS)
            if self._size() <= self._limit:
                return
        while len(self._exchanges) > KEPT_TURNS and self._size() > self._limit:
            self._exchanges.pop(0)
            self._left_out = True
        # The newest turns alone may still be too long for a small window.
        share = max(200, int(2 * self._limit / self._ratio / (len(self._exchanges) or 1)))
        while self._size() > self._limit and share >= 200:
            self._exchanges = [one.shortened(share, share) for one in self._exchanges]
            share //= 2


def cut(text: str, limit: int) -> str:
    """The start and the end of a text of more than `limit` characters, with a note on what is left out between."""
    if len(text) <= limit:
        return text
    note = f"\n[… {len(text) - limit:,} of {len(text):,} characters left out …]\n"
    head = limit * 2 // 3
    return text[:head] + note + text[len(text) - (limit - head) :]
