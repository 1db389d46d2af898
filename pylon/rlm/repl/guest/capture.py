"""Standard output and error of a cell, kept up to a limit."""

import io


class Capture(io.TextIOBase):
    """Counts in bytes of UTF-8. What goes over the limit is dropped, and `truncated` says so."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._room = 0
        self.truncated = False

    def start(self, limit_bytes: int) -> None:
        self._parts = []
        self._room = limit_bytes
        self.truncated = False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._room <= 0:
            self.truncated = self.truncated or bool(text)
            return len(text)
        # A slice first: encoding a huge string whole would double it.
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
        return len(text)

    def text(self) -> str:
        return "".join(self._parts)
