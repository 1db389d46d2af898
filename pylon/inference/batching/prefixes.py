"""Stores the state of prefixes that several prompts share, so that each is computed once.

A recursive run asks the same question about many pieces: tens of prompts that begin with one instruction. Nothing is
shared between customers, since the time of an answer would tell one what another has asked.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

# Shorter prefixes are not worth a copy of the model's state.
LEAST_TOKENS = 32
# Each stored prefix is a whole key-value state, megabytes for a large model. The bytes are limited as well.
MOST_PREFIXES = 16

_STRIDE = 64


def common_length(one: Sequence[object], other: Sequence[object]) -> int:
    """The number of leading tokens, or characters, that are equal."""
    most = min(len(one), len(other))
    at = 0
    # Comparing slices is much faster than comparing single tokens.
    while at < most and one[at : at + _STRIDE] == other[at : at + _STRIDE]:
        at += _STRIDE
    while at < most and one[at] == other[at]:
        at += 1
    return min(at, most)


def worth_sharing(prompt: Sequence[int], others: Sequence[Sequence[int]], read: int = 0) -> int:
    """The length of the prefix of `prompt` that saves most computation if all `others` with it share it; 0 for none.

    `read` is the length of a prefix that is stored already: only what goes beyond it is saved. At least one token of
    a prompt is left out, whose computation gives the first token of the answer.
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
    """The model's `state` after exactly these tokens, which is copied for use and never changed; `size` in bytes.

    `customer` owns it. None is for everybody: the bare chat template, which reveals nothing.
    """

    customer: str | None
    tokens: list[int]
    state: State
    size: int


class PrefixStore[State]:
    """The prefixes used last, limited in number and bytes. The one for everybody stays."""

    def __init__(self, most_bytes: int, most: int = MOST_PREFIXES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._prefixes: OrderedDict[int, Prefix[State]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._prefixes)

    def __contains__(self, prefix: Prefix[State]) -> bool:
        return id(prefix) in self._prefixes

    def find(self, customer: str, tokens: Sequence[int]) -> Prefix[State] | None:
        """The customer's longest prefix that `tokens` begin with and are longer than; None if there is none."""
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
        """Stores a prefix; returns those that were removed for it."""
        self._prefixes[id(prefix)] = prefix
        gone: list[Prefix[State]] = []
        while len(self._prefixes) > self._most or self.size > self._most_bytes:
            oldest = next((key for key, each in self._prefixes.items() if each.customer is not None), None)
            if oldest is None:
                break
            gone.append(self._prefixes.pop(oldest))
        return gone

    def clear(self) -> list[Prefix[State]]:
        """Removes and returns the prefixes of all customers."""
        gone = [each for each in self._prefixes.values() if each.customer is not None]
        for each in gone:
            del self._prefixes[id(each)]
        return gone

    @property
    def size(self) -> int:
        """The bytes of all prefixes."""
        return sum(prefix.size for prefix in self._prefixes.values())

    @property
    def tokens(self) -> int:
        """The tokens of all prefixes."""
        return sum(len(prefix.tokens) for prefix in self._prefixes.values())
