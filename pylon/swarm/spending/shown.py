"""How much of an answer has come in pieces, which bounds what may be charged if its job is taken back."""

from collections.abc import Iterable

from pylon.records import record


@record
class Shown:
    """The length of an answer's beginning, as far as it came without a gap."""

    characters: int = 0
    bytes: int = 0

    def and_then(self, offset: int, text: str) -> "Shown":
        """With a further piece that starts at character `offset`; only what it adds counts."""
        added = text[self.characters - offset :] if offset <= self.characters else ""
        if not added:
            return self
        return Shown(self.characters + len(added), self.bytes + len(added.encode()))


NOTHING = Shown()


def shown_by(pieces: Iterable[tuple[int, str]]) -> Shown:
    """How much these pieces show, in any order; each is (the character that it starts at, its text)."""
    shown = NOTHING
    for offset, text in sorted(pieces):
        shown = shown.and_then(offset, text)
    return shown
