"""Heads that prompts have in common, so that each is computed once.

A recursive run asks the same question of many pieces: tens of prompts with one instruction in front. Nothing is
shared between customers, since the time an answer takes would tell one what another asked.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

# Shorter heads are not worth a copy of the model's state.
LEAST_TOKENS = 32
# Each cached head is a whole key-value state, megabytes for a large model; the engine says how many bytes it has.
MOST_PREFIXES = 16

_STRIDE = 64


def common_length(one: Sequence[object], other: Sequence[object]) -> int:
    """How many leading tokens, or characters, are equal."""
    most = min(len(one), len(other))
    at = 0
    # Whole slices compare far faster than single tokens do.
    while at < most and one[at : at + _STRIDE] == other[at : at + _STRIDE]:
        at += _STRIDE
    while at < most and one[at] == other[at]:
        at += 1
    return min(at, most)


def worth_sharing(prompt: Sequence[int], others: Sequence[Sequence[int]], read: int = 0) -> int:
    """How long a head of `prompt` saves the most when all of `others` that begin with it share it; or 0 for none.

    `read` is the length of a head that is shared already: only what goes beyond it is saved. At least one token of
    a prompt stays outside: its computation gives the answer's first token.
    """
    lengths = sorted((min(common_length(prompt, other), len(prompt) - 1) for other in others), reverse=True)
    saved = {
        length: (length - read) * sharers
        for sharers, length in enumerate(lengths, 1)
        if length - read >= LEAST_TOKENS
    }
    return max(saved, key=saved.__getitem__, default=0)


@dataclass(frozen=True, slots=True, eq=False)
class Prefix[State]:
    """`state` is the model's state after exactly these tokens. It is copied by its users, never changed.

    `customer` is whose it is; None is everybody's: the bare chat template, which tells nobody anything.
    """

    customer: str | None
    tokens: list[int]
    state: State
    size: int


class PrefixStore[State]:
    """The prefixes that were used last, bounded in number and bytes. Everybody's one stays."""

    def __init__(self, most_bytes: int, most: int = MOST_PREFIXES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._prefixes: OrderedDict[int, Prefix[State]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._prefixes)

    def __contains__(self, prefix: Prefix[State]) -> bool:
        return id(prefix) in self._prefixes

    def find(self, customer: str, tokens: Sequence[int]) -> Prefix[State] | None:
        """The customer's longest prefix that `tokens` begin with and go beyond."""
        fitting = [
            prefix
            for prefix in self._prefixes.values()
            if prefix.customer in (customer, None)
            and len(prefix.tokens) < len(tokens)
            and list(tokens[: len(prefix.tokens)]) == prefix.tokens
        ]
        if not fitting:
            return None
        longest = max(fitting, key=lambda prefix: len(prefix.tokens))
        self._prefixes.move_to_end(id(longest))
        return longest

    def put(self, prefix: Prefix[State]) -> list[Prefix[State]]:
        """Those that had to go for it."""
        self._prefixes[id(prefix)] = prefix
        gone: list[Prefix[State]] = []
        while len(self._prefixes) > self._most or self.size > self._most_bytes:
            oldest = next((key for key, each in self._prefixes.items() if each.customer is not None), None)
            if oldest is None:
                break
            gone.append(self._prefixes.pop(oldest))
        return gone

    def clear(self) -> list[Prefix[State]]:
        """Lets all customers' prefixes go; says which."""
        gone = [each for each in self._prefixes.values() if each.customer is not None]
        for each in gone:
            del self._prefixes[id(each)]
        return gone

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(prefix.size for prefix in self._prefixes.values())

    @property
    def tokens(self) -> int:
        """Of all together."""
        return sum(len(prefix.tokens) for prefix in self._prefixes.values())
