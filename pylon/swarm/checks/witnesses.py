"""Whose answers are due for a second opinion, and who is asked for it."""

import random
from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from pylon.swarm.checks.evidence import Evidence
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.providers.listing import Listing
from pylon.swarm.providers.peers import ANY, Peers

# So many are drawn, and the better half of them may be asked for a second opinion.
DRAWN = 12
ASKED = 6
# So many of those that a provider agreed with are remembered.
LATELY = 4


class Examined(Protocol):
    """Of what a second opinion is wanted: a provider's answer, or one that is still to come."""

    @property
    def provider(self) -> str: ...
    @property
    def weights(self) -> str: ...
    @property
    def asked(self) -> JobSpec: ...
    @property
    def answers(self) -> Sequence[Answer]: ...
    @property
    def doubts(self) -> Sequence[object]: ...
    @property
    def tried(self) -> Collection[str]: ...


class Witnesses:
    """Everybody who is there, and what is going on with whom."""

    def __init__(self, evidence: Evidence, rng: random.Random) -> None:
        self._evidence = evidence
        self._reputation = evidence.reputation
        self._rng = rng
        self._peers = Peers()
        # Whose answers are under examination, how many of each.
        self._examined: Counter[str] = Counter()
        # With whom each one agreed lately.
        self._agreed: dict[str, deque[str]] = {}

    def put(self, listing: Listing) -> None:
        """A provider came or changed."""
        self._peers.put(listing)

    def remove(self, provider: str) -> None:
        """A provider went."""
        self._peers.remove(provider)
        self._agreed.pop(provider, None)

    def agreed(self, one: str, others: Iterable[str]) -> None:
        """One's answer was the same as the others'."""
        # Of one that has left already nothing is kept: it would be for good.
        if one in self._peers:
            self._agreed.setdefault(one, deque(maxlen=LATELY)).extend(others)

    def weights(self, provider: str, model: str | None) -> str:
        """The hash of the weights that a provider runs as this model; empty when it names none."""
        return self._peers.weights(provider, model)

    def opened(self, provider: str) -> None:
        """An examination of an answer of the provider's began."""
        self._examined[provider] += 1

    def closed(self, provider: str) -> None:
        """It is over."""
        self._examined[provider] -= 1
        if not self._examined[provider]:
            del self._examined[provider]

    def examined(self, provider: str) -> int:
        """How many of its answers are under examination."""
        return self._examined[provider]

    def is_alone(self, case: Examined) -> bool:
        """Whether there is nobody who has not had the question."""
        return not self._peers.draw(self._rng, ANY, 1, case.tried)

    def is_its_turn(self, provider: str) -> bool:
        """Whether it went longest without a check, among a few that are drawn and those not under examination."""
        count = self._evidence.unchecked.count
        others = self._peers.draw(self._rng, ANY, DRAWN, {provider})
        return count(provider) >= max((count(key) for key in others if key not in self._examined), default=0)

    def whom(self, case: Examined) -> tuple[str, ...]:
        """Who could answer it too, the best first.

        A newcomer is measured by somebody known, and the other way round: each comparison tells of both.
        """
        provider, count = case.provider, self._evidence.unchecked.count
        drawn = self._draw(case)
        deciding = len(case.answers) > 1
        known_first = deciding or self._evidence.is_suspect(provider) or not self._reputation.is_proven(provider)
        # Whoever is to decide should have passed a check lately; whoever is to be checked as well, long ago.
        half = sorted(map(count, drawn))[len(drawn) // 2] if drawn else 0
        drawn.sort(key=lambda key: count(key) < half, reverse=deciding)
        # Two that lie alike agree each time: somebody else says more, and most of all one of whom nothing is known.
        said = {provider, *(answer.provider for answer in case.answers)}
        agreed = {other for key in said for other in self._agreed.get(key, ())}
        drawn.sort(key=agreed.__contains__)
        drawn.sort(key=lambda key: key in self._examined or self._reputation.was_checked(key), reverse=deciding)
        drawn.sort(key=self._reputation.trust, reverse=known_first)
        return tuple(drawn[:ASKED])

    def _draw(self, case: Examined) -> list[str]:
        drawn: list[str] = []
        if case.asked.schema is not None or case.asked.votes > 1:
            drawn = self._peers.draw(self._rng, ANY, DRAWN, case.tried)
        elif case.weights and not case.asked.temperature:
            drawn = self._peers.draw(self._rng, case.weights, DRAWN, case.tried)
        if not drawn and case.doubts:
            # Anybody at all can tell whether the question calls for nothing, or for an echo.
            drawn = self._peers.draw(self._rng, ANY, DRAWN, case.tried)
        return drawn
