"""Books what checks found of providers, and tells what follows for their other answers."""

from collections import OrderedDict, deque
from dataclasses import dataclass

from pylon.swarm.checks.commands import Again, Changed, CheckCommand
from pylon.swarm.checks.reputation import Reputation, Seen
from pylon.swarm.checks.unchecked import Unchecked

# How many of a provider's latest opinions against others are remembered.
OPINIONS = 50
# For how many providers these are kept, the latest used first: more than a customer meets before one is caught.
PROVIDERS = 2_000


@dataclass(slots=True, eq=False)
class _Loss:
    """A comparison that `provider` lost because of what others said; `void` once one of these was caught lying."""

    provider: str
    void: bool = False


class Evidence:
    """See the module. It writes to the reputation, and returns which answers are to be asked again."""

    def __init__(self, reputation: Reputation) -> None:
        self.reputation = reputation
        self.unchecked = Unchecked()
        # Providers whose answers passed by the opinion of a provider that was caught later, and no check since.
        self._doubted: set[str] = set()
        # By the provider whose opinion was used: the comparisons that others lost by it.
        self._losses: OrderedDict[str, deque[_Loss]] = OrderedDict()

    def is_suspect(self, provider: str) -> bool:
        """Whether each answer of this provider must be checked."""
        return provider in self._doubted or self.reputation.is_suspect(provider)

    def check_share(self, provider: str) -> float:
        """The chance that its next answer is checked."""
        if provider in self._doubted:
            return 1.0
        return self.reputation.check_share(provider, self.unchecked.count(provider))

    def gone(self, provider: str) -> None:
        """The provider left."""
        self._doubted.discard(provider)

    def note(
        self, provider: str, seen: Seen, now: float, detail: str = "", by: tuple[str, ...] = ()
    ) -> list[CheckCommand]:
        """Books what was seen of a provider's answer, and returns what follows.

        `by` are the providers whose answers say so. `now` is in Unix seconds.
        """
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
            # A comparison that a liar had a part in proves nothing: the other provider is judged by its next answers.
            if not loss.void and loss.provider != provider:
                loss.void = True
                self.reputation.pardon(loss.provider)
                self._doubted.add(loss.provider)
                out.append(Changed(loss.provider))


def _ask_again(out: list[CheckCommand], provider: str, slots: tuple[int, ...]) -> None:
    if slots:
        out.append(Again(slots, provider))
