"""An answer that grows, cut into the pieces that a stream sends: what was sent cannot be taken back."""


class Deltas:
    """Takes the whole text so far, again and again. `sent` is what the pieces make together."""

    def __init__(self) -> None:
        self.sent = ""

    def take(self, text: str) -> str:
        """What to send now. Nothing while a provider that took over is behind what was sent, or says otherwise."""
        if not text.startswith(self.sent) or self.sent == text:
            return ""
        piece, self.sent = text[len(self.sent) :], text
        return piece

    def end(self, text: str) -> str | None:
        """The last piece, with the answer as it stands; None when what was sent is not how it begins."""
        if not text.startswith(self.sent):
            return None
        return self.take(text)
