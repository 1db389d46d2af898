"""Greedy answers given again: the same prompt under the same settings has one answer.

A recursive run often asks the same thing twice, also at the same time. Answers are kept apart by customer, since one
that comes at once would tell a customer what another had asked.
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
    """What makes two requests the same; None when their answers are drawn by chance."""
    if not sampling.greedy:
        return None
    # Greedy decoding draws nothing, so what shapes a draw makes no difference.
    greedy = replace(sampling, temperature=0.0, seed=None, top_p=1.0, top_k=0)
    # Kept by the thousand: a digest of all of it is a quarter of it.
    return hashlib.sha256(repr((customer, greedy)).encode() + array("q", tokens).tobytes()).digest()


class AnswerStore:
    """The answers used last, bounded in number and in characters."""

    def __init__(self, most: int = MOST_ANSWERS, most_chars: int = MOST_CHARS) -> None:
        self._most = most
        self._most_chars = most_chars
        self._chars = 0
        self._answers: OrderedDict[AnswerKey, Generation] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, key: AnswerKey) -> Generation | None:
        """That answer as given now, with no time spent on it; or None."""
        generation = self._answers.get(key)
        if generation is None:
            return None
        self._answers.move_to_end(key)
        return replace(generation, run_ms=0)

    def put(self, key: AnswerKey, generation: Generation) -> None:
        old = self._answers.pop(key, None)
        self._answers[key] = generation
        self._chars += len(generation.text) - (len(old.text) if old is not None else 0)
        while len(self._answers) > self._most or self._chars > self._most_chars:
            _, gone = self._answers.popitem(last=False)
            self._chars -= len(gone.text)


class Waiter(Protocol):
    @property
    def id(self) -> str: ...


class Twins[W: Waiter]:
    """Requests whose equal is being answered: they wait for its answer instead of computing it beside it."""

    def __init__(self) -> None:
        self._followers: dict[AnswerKey, list[W]] = {}

    def lead(self, key: AnswerKey, waiter: W) -> bool:
        """Whether `waiter` is the first of its kind, and so has to be computed; otherwise it follows."""
        if key in self._followers:
            self._followers[key].append(waiter)
            return False
        self._followers[key] = []
        return True

    def followers(self, key: AnswerKey) -> Sequence[W]:
        return self._followers.get(key, ())

    def end(self, key: AnswerKey) -> list[W]:
        """The leader is done or gone: those that followed it, followers no more."""
        return self._followers.pop(key, [])

    def cancel(self, request_id: str) -> None:
        """Lets a follower go."""
        for followers in self._followers.values():
            followers[:] = [each for each in followers if each.id != request_id]
