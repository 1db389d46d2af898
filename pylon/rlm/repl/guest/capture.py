"""The standard output or error of a cell, kept up to a limit.

It is sent to the host while the cell runs, too: if the cell has to be ended, what it printed shows how far it got.
"""

import io
import time
from collections.abc import Callable

# The first lines of a cell are sent one by one, what follows at most four times a second: sending costs more than
# printing.
_LINES = 200
_EVERY_S = 0.25


class Capture(io.TextIOBase):
    """A text stream that keeps what is written, up to a limit in bytes of UTF-8.

    What exceeds the limit is dropped, and `truncated` is set. `tell` sends what was written to the host.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._parts: list[str] = []
        self._room = 0
        self.truncated = False
        self._tell = tell
        self._live = False
        self._untold: list[str] = []
        self._lines = 0
        self._told_at = 0.0

    def start(self, limit_bytes: int) -> None:
        """Begins with the next cell."""
        self._parts, self._untold = [], []
        self._room = limit_bytes
        self.truncated = False
        self._live, self._lines = True, _LINES

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._room <= 0:
            self.truncated = self.truncated or bool(text)
            return len(text)
        # Sliced first: encoding a huge text as a whole would double it in memory.
        kept = text[: self._room]
        size = len(kept) if kept.isascii() else len(kept.encode("utf-8", "replace"))
        if size > self._room:
            kept = kept.encode("utf-8", "replace")[: self._room].decode("utf-8", "ignore")
            size = self._room
        self.truncated = self.truncated or len(kept) < len(text)
        self._parts.append(kept)
        self._room -= size
        if len(self._parts) > 10_000:
            self._parts = ["".join(self._parts)]
        if self._live and kept:
            self._untold.append(kept)
            self._tell_some()
        return len(text)

    def _tell_some(self) -> None:
        if self._room > 0 and self._lines:
            if not self._untold[-1].endswith("\n"):
                return
            self._lines -= 1
        elif self._room > 0 and time.monotonic() - self._told_at < _EVERY_S:
            return
        untold, self._untold = self._untold, []
        # Taken out before: sending may be interrupted.
        self._tell("".join(untold))
        self._told_at = time.monotonic()

    def text(self) -> str:
        """All that was kept of the cell, which has ended."""
        self._live = False
        return "".join(self._parts)
