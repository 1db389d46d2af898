"""Reuses greedy answers: the same prompt with the same settings has only one answer.

A recursive run often asks the same prompt twice, or several times at once. Answers are not shared between customers,
since an answer that comes at once would tell one what another has asked.
"""

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from pylon.inference.engine import Generation, Sampling

MOST_ANSWERS = 4_096
MOST_CHARS = 8 * 1024 * 1024

type AnswerKey = bytes


def answer_key(customer: str, tokens: Sequence[int], sampling: Sampling) -> AnswerKey | None:
    """A key that equal requests have in common; None if the answer is drawn at random."""
    if not sampling.greedy:
        return None
    # Greedy decoding draws nothing, so the settings of drawing make no difference.
    greedy = replace(sampling, temperature=0.0, seed=None, top_p=1.0, top_k=0)
    # A digest, because thousands are stored, and it takes a quarter of the memory.
    return hashlib.sha256(repr((customer, greedy)).encode() + array("q", tokens).tobytes()).digest()


class AnswerStore:
    """The answers used last, limited in number and in characters."""

    def __init__(self, most: int = MOST_ANSWERS, most_chars: int = MOST_CHARS) -> None:
        self._most = most
        self._most_chars = most_chars
        self._chars = 0
        self._answers: OrderedDict[AnswerKey, Generation] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, key: AnswerKey) -> Generation | None:
        """The stored answer, with a `run_ms` of 0; None if there is none."""
        generation = self._answers.get(key)
        if generation is None:
            return None
        self._answers.move_to_end(key)
        return replace(generation, run_ms=0)

    def put(self, key: AnswerKey, generation: Generation) -> None:
        """Stores an answer."""
        old = self._answers.pop(key, None)
        self._answers[key] = generation
        self._chars += len(generation.text) - (len(old.text) if old is not None else 0)
        while len(self._answers) > self._most or self._chars > self._most_chars:
            _, gone = self._answers.popitem(last=False)
            self._chars -= len(gone.text)


class Waiter(Protocol):
    @property
    def id(self) -> str: ...


class EqualRequests[W: Waiter]:
    """Requests that wait for the answer of an equal one (their leader) instead of being computed, too."""

    def __init__(self) -> None:
        self._followers: dict[AnswerKey, list[W]] = {}

    def lead(self, key: AnswerKey, waiter: W) -> bool:
        """Whether `waiter` is the leader, which has to be computed; if not, it waits for the leader's answer."""
        if key in self._followers:
            self._followers[key].append(waiter)
            return False
        self._followers[key] = []
        return True

    def followers(self, key: AnswerKey) -> Sequence[W]:
        return self._followers.get(key, ())

    def end(self, key: AnswerKey) -> list[W]:
        """Ends a leader; returns the requests that waited for it."""
        return self._followers.pop(key, [])

    def cancel(self, request_id: str) -> None:
        """Drops a request that waits."""
        for followers in self._followers.values():
            followers[:] = [each for each in followers if each.id != request_id]
