"""How much fits into memory: values in, decisions out.

A batch's key-value state is as wide as its longest row, so what a request costs depends on its company.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pylon.errors import ModelError, NoRoomError

# Of the limit: above it nothing new starts, which leaves the rest for what estimates do not see (the chunk that is
# being read, copies while rows join and leave).
SOFT = 0.9
# Of memory that is free when the model loads; the rest is for whoever else works on this machine.
OF_FREE = 0.8
# Shared heads may take this part of what the weights leave.
OF_PREFIXES = 0.25
MOST_PREFIX_BYTES = 2 * 1024**3


def memory_limit(free: int, accelerator: int | None, wished: int = 0) -> int:
    """Bytes that the engine may use in all, weights included.

    `free` is what the machine has left before the model loads, `accelerator` the most that its GPU can address
    (None without one), `wished` the owner's own limit, or 0.
    """
    limit = int(free * OF_FREE)
    if accelerator is not None:
        limit = min(limit, accelerator)
    return min(limit, wished) if wished else limit


def check_weights(size: int, limit: int, most: int, model: str) -> None:
    """Raises NoRoomError when weights of `size` bytes leave nothing of `limit`, and ModelError when they do not of
    `most` either: the limit of a machine on which nothing else runs."""
    if size >= limit:
        raise (ModelError if size >= most else NoRoomError)(
            f"The weights of {model} take {size / 1e9:.1f} GB, but only {limit / 1e9:.1f} GB may be used here now.",
            hint=("Choose a smaller model (`pylon models recommend`), or close programs that use memory."),
        )


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """All in bytes. `per_token` is one token's key-value state, `per_row` what a sequence takes at any length."""

    limit: int
    weights: int
    per_token: int
    per_row: int

    @property
    def soft(self) -> int:
        return int(self.limit * SOFT)

    @property
    def prefix_bytes(self) -> int:
        """The most that shared heads may take."""
        return max(0, min(int((self.soft - self.weights) * OF_PREFIXES), MOST_PREFIX_BYTES))

    def batch(self, rows: Sequence[int]) -> int:
        """What a batch takes whose rows grow to these lengths, in tokens."""
        return len(rows) * (max(rows) * self.per_token + self.per_row) if rows else 0

    def longest(self) -> int:
        """How many tokens, prompt and answer together, one request may have when it is alone."""
        room = self.soft - self.weights - self.per_row
        return max(0, room // self.per_token) if self.per_token else 2**63

    def admits(self, rows: Sequence[int], new: int, prefixes: int = 0) -> bool:
        """Whether a row of `new` tokens may join these; `prefixes` is what shared heads take."""
        return self.weights + prefixes + self.batch([*rows, new]) <= self.soft

    def must_shed(self, used: int) -> bool:
        """Whether memory in use, as measured, is over the limit."""
        return used > self.limit
