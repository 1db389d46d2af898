"""Answers that were delivered and passed no check themselves, in runs that are open: they can be asked again.

That another answer of their provider passed says little for them: it may lie now and then, or from now on. Two that
lie alike confirm each other, so what one's opinion confirmed is remembered with it, and stands open again once that
one is caught.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from pylon.swarm.job import Answer, JobSpec

# So many of a provider's latest answers are kept in full, to be looked at once more.
LATEST = 10
# Of so many providers it is kept how many of their answers came unchecked.
REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Delivered:
    """An answer that fills a slot of a run."""

    run: int
    slot: int
    asked: JobSpec
    answer: Answer


class Unchecked:
    """By provider, and by slot of an open run."""

    def __init__(self) -> None:
        self._open: dict[str, dict[int, None]] = {}
        self._open_at: dict[int, str] = {}
        self._latest: dict[str, deque[Delivered]] = {}
        # By whose opinion slots are confirmed, and whose answers are in them.
        self._confirmed: dict[str, dict[int, str]] = {}
        self._confirmed_at: dict[int, str] = {}
        self._since: Counter[str] = Counter()

    def count(self, provider: str) -> int:
        """How many of its answers came since one passed a check, in whatever run."""
        return self._since[provider]

    def came(self, provider: str) -> None:
        """An answer of the provider's is delivered as it came."""
        self._since[provider] += 1
        if len(self._since) > 2 * REMEMBERED:
            # Whoever has most of them is due first, so those with few are forgotten.
            self._since = Counter(dict(self._since.most_common(REMEMBERED)))

    def passed(self, provider: str) -> None:
        """An answer of the provider's passed a check."""
        self._since.pop(provider, None)

    def add(self, delivered: Delivered) -> None:
        """This answer fills its slot, and the slot can be asked again."""
        provider = delivered.answer.provider
        self._put(delivered.slot, provider)
        self._latest.setdefault(provider, deque(maxlen=LATEST)).append(delivered)

    def confirmed(self, slot: int, provider: str, by: str) -> None:
        """The provider's answer fills the slot, and another said the same."""
        self._confirmed.setdefault(by, {})[slot] = provider
        self._confirmed_at[slot] = by

    def take_latest(self, provider: str) -> Delivered | None:
        """The latest of its answers that can be looked at once more, which then counts as not delivered."""
        latest = self._latest.get(provider)
        while latest:
            delivered = latest.pop()
            if self._open_at.get(delivered.slot) == provider:
                self.closed([delivered.slot])
                return delivered
        return None

    def caught(self, provider: str) -> tuple[tuple[int, ...], frozenset[str]]:
        """It lies: the slots that its answers fill unchecked, and whose answers are so again without its opinion."""
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
        """These cannot be asked again any more."""
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
