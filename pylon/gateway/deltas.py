"""Cuts an answer that grows into the pieces that a stream sends, which cannot be taken back once sent."""


class Deltas:
    """Is given the whole text so far each time. `sent` is the text of all pieces together."""

    def __init__(self) -> None:
        self.sent = ""

    def take(self, text: str) -> str:
        """The piece to send now: empty while another provider that took over has less text than was sent, or a
        different one.
        """
        if not text.startswith(self.sent) or self.sent == text:
            return ""
        piece, self.sent = text[len(self.sent) :], text
        return piece

    def end(self, text: str) -> str | None:
        """The last piece, given the final answer; None if that does not begin with what was sent."""
        if not text.startswith(self.sent):
            return None
        return self.take(text)
