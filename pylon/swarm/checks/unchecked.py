"""Delivered answers of open runs that passed no check themselves, and so can be asked again if their provider lies.

That another answer of the same provider passed says little for them: it may lie now and then, or from now on. Two
liars can confirm each other. So each confirmation remembers who gave it, and is void once that provider is caught.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from pylon.swarm.job import Answer, JobSpec

# How many of a provider's latest answers are kept in full, to be examined later.
LATEST = 10
# For how many providers the count of unchecked answers is kept.
REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Delivered:
    """An answer that fills a slot of a run."""

    run: int
    slot: int
    asked: JobSpec
    answer: Answer


class Unchecked:
    """See the module. Indexed by provider, and by slot of an open run."""

    def __init__(self) -> None:
        self._open: dict[str, dict[int, None]] = {}
        self._open_at: dict[int, str] = {}
        self._latest: dict[str, deque[Delivered]] = {}
        # By the provider whose opinion confirmed them: slots, and the provider whose answer is in each.
        self._confirmed: dict[str, dict[int, str]] = {}
        self._confirmed_at: dict[int, str] = {}
        self._since: Counter[str] = Counter()

    def count(self, provider: str) -> int:
        """How many of its answers came since one last passed a check, in all runs."""
        return self._since[provider]

    def came(self, provider: str) -> None:
        """An answer of this provider is delivered unchecked."""
        self._since[provider] += 1
        if len(self._since) > 2 * REMEMBERED:
            # Providers with most unchecked answers are checked first, so those with few are forgotten.
            self._since = Counter(dict(self._since.most_common(REMEMBERED)))

    def passed(self, provider: str) -> None:
        """An answer of this provider passed a check."""
        self._since.pop(provider, None)

    def add(self, delivered: Delivered) -> None:
        """This answer fills its slot unchecked, and can be asked again."""
        provider = delivered.answer.provider
        self._put(delivered.slot, provider)
        self._latest.setdefault(provider, deque(maxlen=LATEST)).append(delivered)

    def confirmed(self, slot: int, provider: str, by: str) -> None:
        """The answer of `provider` fills the slot, confirmed by the opinion of `by`."""
        self._confirmed.setdefault(by, {})[slot] = provider
        self._confirmed_at[slot] = by

    def take_latest(self, provider: str) -> Delivered | None:
        """Removes and returns the latest of its answers that can be examined; None if there is none."""
        latest = self._latest.get(provider)
        while latest:
            delivered = latest.pop()
            if self._open_at.get(delivered.slot) == provider:
                self.closed([delivered.slot])
                return delivered
        return None

    def caught(self, provider: str) -> tuple[tuple[int, ...], frozenset[str]]:
        """This provider lies. Returns the slots that its unchecked answers fill, and the providers whose answers only
        its opinion had confirmed: these count as unchecked again."""
        slots = tuple(self._open.pop(provider, ()))
        self._latest.pop(provider, None)
        self._since.pop(provider, None)
        for slot in slots:
            del self._open_at[slot]
        confirmed = self._confirmed.pop(provider, {})
        for slot, other in confirmed.items():
            del self._confirmed_at[slot]
            self._put(slot, other)
        return slots, frozenset(confirmed.values())

    def closed(self, slots: Iterable[int]) -> None:
        """Forgets these slots: they cannot be asked again."""
        for slot in slots:
            if (provider := _forget(self._open, self._open_at, slot)) is not None and provider not in self._open:
                self._latest.pop(provider, None)
            _forget(self._confirmed, self._confirmed_at, slot)

    def _put(self, slot: int, provider: str) -> None:
        self._open.setdefault(provider, {})[slot] = None
        self._open_at[slot] = provider


def _forget[T](by_key: dict[str, dict[int, T]], key_at: dict[int, str], slot: int) -> str | None:
    key = key_at.pop(slot, None)
    if key is not None:
        del by_key[key][slot]
        if not by_key[key]:
            del by_key[key]
    return key
