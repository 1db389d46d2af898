"""Witnesses: which provider is due for a second opinion, and who can be asked for one."""

import random
from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from pylon.swarm.checks.evidence import Evidence
from pylon.swarm.job import Answer, JobSpec
from pylon.swarm.providers.listing import Listing
from pylon.swarm.providers.peers import ANY, Peers

# How many providers are drawn, and how many of them, the best ones, may be asked for a second opinion.
DRAWN = 12
ASKED = 6
# How many of the providers that one agreed with lately are remembered.
LATELY = 4


class Examined(Protocol):
    """What a second opinion is wanted on: a provider's answer (`Case`), or one still to come (`Early`)."""

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
    """See the module. It knows the live providers, and whose answers are under examination."""

    def __init__(self, evidence: Evidence, rng: random.Random) -> None:
        self._evidence = evidence
        self._reputation = evidence.reputation
        self._rng = rng
        self._peers = Peers()
        # How many answers of each provider are under examination.
        self._examined: Counter[str] = Counter()
        # The providers that each one agreed with lately.
        self._agreed: dict[str, deque[str]] = {}

    def put(self, listing: Listing) -> None:
        """A provider appeared or changed."""
        self._peers.put(listing)

    def remove(self, provider: str) -> None:
        """A provider left."""
        self._peers.remove(provider)
        self._agreed.pop(provider, None)

    def agreed(self, one: str, others: Iterable[str]) -> None:
        """The answer of `one` agreed with those of the others."""
        # Nothing is kept of a provider that has left: it would never be removed.
        if one in self._peers:
            self._agreed.setdefault(one, deque(maxlen=LATELY)).extend(others)

    def weights(self, provider: str, model: str | None) -> str:
        """The hash of the weights that a provider runs as this model; empty when it names none."""
        return self._peers.weights(provider, model)

    def opened(self, provider: str) -> None:
        """The examination of an answer of this provider began."""
        self._examined[provider] += 1

    def closed(self, provider: str) -> None:
        """The examination of an answer of this provider is over."""
        self._examined[provider] -= 1
        if not self._examined[provider]:
            del self._examined[provider]

    def examined(self, provider: str) -> int:
        """How many answers of this provider are under examination."""
        return self._examined[provider]

    def is_alone(self, case: Examined) -> bool:
        """Whether every provider has had the question."""
        return not self._peers.draw(self._rng, ANY, 1, case.tried)

    def is_its_turn(self, provider: str) -> bool:
        """Whether it has gone longest without a check, compared with a few drawn providers not under examination."""
        count = self._evidence.unchecked.count
        others = self._peers.draw(self._rng, ANY, DRAWN, {provider})
        return count(provider) >= max((count(key) for key in others if key not in self._examined), default=0)

    def whom(self, case: Examined) -> tuple[str, ...]:
        """The providers that could answer it too, the best first.

        A newcomer is compared with a known provider and the other way round, since each comparison tells of both.
        """
        provider, count = case.provider, self._evidence.unchecked.count
        drawn = self._draw(case)
        deciding = len(case.answers) > 1
        known_first = deciding or self._evidence.is_suspect(provider) or not self._reputation.is_proven(provider)
        # A provider that is to decide should have passed a check lately; one that is also to be checked, long ago.
        half = sorted(map(count, drawn))[len(drawn) // 2] if drawn else 0
        drawn.sort(key=lambda key: count(key) < half, reverse=deciding)
        # Two that lie alike agree each time, so another provider says more, and an unknown one the most.
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
            # Any provider can tell whether the question calls for an empty answer, or for an echo.
            drawn = self._peers.draw(self._rng, ANY, DRAWN, case.tried)
        return drawn
