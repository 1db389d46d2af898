"""What was seen of providers, and what follows for their other answers."""

from collections import OrderedDict, deque
from dataclasses import dataclass

from pylon.swarm.checks.commands import Again, Changed, CheckCommand
from pylon.swarm.checks.reputation import Reputation, Seen
from pylon.swarm.checks.unchecked import Unchecked

# So many of a provider's latest opinions against others are remembered.
OPINIONS = 50
# Of so many providers, those whose opinions counted last: more than anybody meets who could still be caught.
PROVIDERS = 2_000


@dataclass(slots=True, eq=False)
class _Loss:
    """Somebody's answer did not count, because of what others said."""

    provider: str
    void: bool = False


class Evidence:
    """Books into the reputation what checks found, and tells which answers are to be asked again because of it."""

    def __init__(self, reputation: Reputation) -> None:
        self.reputation = reputation
        self.unchecked = Unchecked()
        # Whose answers passed by the opinion of somebody who was caught, and no check since.
        self._doubted: set[str] = set()
        # By whose opinion others lost.
        self._losses: OrderedDict[str, deque[_Loss]] = OrderedDict()

    def is_suspect(self, provider: str) -> bool:
        """Whether each of its answers must be checked, whatever it costs."""
        return provider in self._doubted or self.reputation.is_suspect(provider)

    def check_share(self, provider: str) -> float:
        """The chance that its next answer is checked."""
        if provider in self._doubted:
            return 1.0
        return self.reputation.check_share(provider, self.unchecked.count(provider))

    def gone(self, provider: str) -> None:
        """It left."""
        self._doubted.discard(provider)

    def note(
        self, provider: str, seen: Seen, now: float, detail: str = "", by: tuple[str, ...] = ()
    ) -> list[CheckCommand]:
        """Books it. `by` are those whose answers say so. `now` is in Unix seconds."""
        out: list[CheckCommand] = []
        before = self.reputation.width(provider, now)
        caught = self.reputation.note(provider, seen, now, detail)
        self._doubted.discard(provider)
        if seen is Seen.PASSED:
            self.unchecked.passed(provider)
        elif seen is Seen.LOST:
            loss = _Loss(provider)
            for other in by:
                self._losses.setdefault(other, deque(maxlen=OPINIONS)).append(loss)
                self._losses.move_to_end(other)
            while len(self._losses) > PROVIDERS:
                self._losses.popitem(last=False)
        if caught:
            self._caught(provider, now, out)
        if caught or self.reputation.width(provider, now) != before:
            out.append(Changed(provider))
        return out

    def _caught(self, provider: str, now: float, out: list[CheckCommand]) -> None:
        slots, others = self.unchecked.caught(provider)
        self._doubted |= others - self.reputation.circle.own
        _ask_again(out, provider, slots)
        for other in sorted(others):
            if self.reputation.is_out(other, now):
                _ask_again(out, other, self.unchecked.caught(other)[0])
        for loss in self._losses.pop(provider, ()):
            # What a liar had a part in proves nothing: it is seen from the next answers what the other one is.
            if not loss.void and loss.provider != provider:
                loss.void = True
                self.reputation.pardon(loss.provider)
                self._doubted.add(loss.provider)
                out.append(Changed(loss.provider))


def _ask_again(out: list[CheckCommand], provider: str, slots: tuple[int, ...]) -> None:
    if slots:
        out.append(Again(slots, provider))
