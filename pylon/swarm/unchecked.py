"""Answers that were delivered and passed no check: they are asked again when their provider turns out to lie.

A check that a provider passes clears what it answered before. Two that lie alike clear each other, though: so what
another's opinion cleared is remembered with that other, and stands open again once it is caught itself.
"""

from collections.abc import Iterable


class Unchecked:
    """Slots of open runs, by the provider whose answer fills them."""

    def __init__(self) -> None:
        self._open: dict[str, dict[int, None]] = {}
        self._open_at: dict[int, str] = {}
        # By whose opinion slots were cleared, and whose answers are in them.
        self._cleared: dict[str, dict[int, str]] = {}
        self._cleared_at: dict[int, str] = {}

    def count(self, provider: str) -> int:
        """How many of its answers came since one passed a check."""
        return len(self._open.get(provider, ()))

    def add(self, slot: int, provider: str) -> None:
        """This answer of the provider's was delivered as it came."""
        self._open.setdefault(provider, {})[slot] = None
        self._open_at[slot] = provider

    def passed(self, provider: str, by: str | None) -> None:
        """An answer of the provider's passed a check, by another's opinion or by our own model's (None)."""
        for slot in self._open.pop(provider, ()):
            del self._open_at[slot]
            if by is not None:
                self._cleared.setdefault(by, {})[slot] = provider
                self._cleared_at[slot] = by

    def caught(self, provider: str) -> tuple[tuple[int, ...], frozenset[str]]:
        """It lies: the slots that its answers fill unchecked, and whose answers are so again without its opinion."""
        slots = tuple(self._open.pop(provider, ()))
        for slot in slots:
            del self._open_at[slot]
        cleared = self._cleared.pop(provider, {})
        for slot, other in cleared.items():
            del self._cleared_at[slot]
            self.add(slot, other)
        return slots, frozenset(cleared.values())

    def closed(self, slots: Iterable[int]) -> None:
        """These cannot be asked again any more."""
        for slot in slots:
            _forget(self._open, self._open_at, slot)
            _forget(self._cleared, self._cleared_at, slot)


def _forget[T](by_key: dict[str, dict[int, T]], key_at: dict[int, str], slot: int) -> None:
    key = key_at.pop(slot, None)
    if key is not None:
        del by_key[key][slot]
        if not by_key[key]:
            del by_key[key]
