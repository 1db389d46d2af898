"""What was seen of providers, and what follows for their other answers."""

from pylon.swarm.check_moves import Again, Changed, Command
from pylon.swarm.reputation import Reputation, Seen
from pylon.swarm.unchecked import Unchecked


class Evidence:
    """Books into the reputation what checks found, and tells which answers are to be asked again because of it."""

    def __init__(self, reputation: Reputation) -> None:
        self.reputation = reputation
        self.unchecked = Unchecked()
        # Whose answers passed by the opinion of somebody who was caught, and no check since.
        self._doubted: set[str] = set()

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

    def note(self, provider: str, seen: Seen, now: float, detail: str = "") -> list[Command]:
        """Books it. `now` is in Unix seconds."""
        out: list[Command] = []
        before = self.reputation.width(provider, now)
        caught = self.reputation.note(provider, seen, now, detail)
        self._doubted.discard(provider)
        if seen is Seen.PASSED:
            self.unchecked.passed(provider)
        elif caught:
            slots, others = self.unchecked.caught(provider)
            self._doubted |= others - self.reputation.own
            _ask_again(out, provider, slots)
            for other in sorted(others):
                if self.reputation.is_out(other, now):
                    _ask_again(out, other, self.unchecked.caught(other)[0])
        if caught or self.reputation.width(provider, now) != before:
            out.append(Changed(provider))
        return out


def _ask_again(out: list[Command], provider: str, slots: tuple[int, ...]) -> None:
    if slots:
        out.append(Again(slots, provider))
