"""Finds stop strings in the text of an answer, where they need not start or end with a token."""

from collections.abc import Sequence


def find_stop(text: str, stops: Sequence[str], grown_from: int = 0) -> int | None:
    """Where the earliest stop string in `text` begins, or None.

    `grown_from` is the length that was searched before: only stop strings that end after it are looked for.
    """
    found = None
    for stop in stops:
        at = text.find(stop, max(0, grown_from - len(stop) + 1)) if stop else -1
        if at >= 0 and (found is None or at < found):
            found = at
    return found


def settled(text: str, stops: Sequence[str]) -> int:
    """How many leading characters of `text` no later character can turn into the start of a stop string."""
    held = 0
    for stop in stops:
        for size in range(min(len(stop) - 1, len(text)), held, -1):
            if text.endswith(stop[:size]):
                held = size
                break
    return len(text) - held
