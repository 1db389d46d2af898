"""Decides how much fits into memory; pure.

The key-value state of a batch is as wide as its longest row, so the cost of a request depends on the others in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pylon.errors import ModelError, NoRoomError

# The share of the limit above which nothing new starts. The rest is for what estimates do not include: the chunk that
# is being read, and copies while rows join and leave.
SOFT = 0.9
# The share of the memory that is free when the model loads. The rest is for other programs on this machine.
OF_FREE = 0.8
# The share of the memory beside the weights that shared prefixes may take.
OF_PREFIXES = 0.25
MOST_PREFIX_BYTES = 2 * 1024**3


def memory_limit(free: int, accelerator: int | None, wished: int = 0) -> int:
    """The bytes that the engine may use, weights included.

    `free` is what the machine has left before the model loads, `accelerator` the most that its GPU can address
    (None without one), `wished` the limit that the owner set, or 0.
    """
    limit = int(free * OF_FREE)
    if accelerator is not None:
        limit = min(limit, accelerator)
    return min(limit, wished) if wished else limit


def check_weights(size: int, limit: int, most: int, model: str) -> None:
    """Raises NoRoomError if weights of `size` bytes do not fit into `limit`, and ModelError if not even into `most`.

    `most` is the limit if nothing else ran on this machine.
    """
    if size >= limit:
        raise (ModelError if size >= most else NoRoomError)(
            f"the weights of {model} take {size / 1e9:.1f} GB, but only {limit / 1e9:.1f} GB may be used here now",
            hint="Choose a smaller model (`pylon models recommend`), or close programs that use memory.",
        )


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The memory of a model, in bytes. `per_token` is one token's state, `per_row` a sequence's fixed part."""

    limit: int
    weights: int
    per_token: int
    per_row: int

    @property
    def soft(self) -> int:
        """The bytes above which nothing new starts."""
        return int(self.limit * SOFT)

    @property
    def prefix_bytes(self) -> int:
        """The most bytes that shared prefixes may take."""
        return max(0, min(int((self.soft - self.weights) * OF_PREFIXES), MOST_PREFIX_BYTES))

    def batch(self, rows: Sequence[int]) -> int:
        """The bytes of a batch whose rows grow to these lengths, in tokens."""
        return len(rows) * (max(rows) * self.per_token + self.per_row) if rows else 0

    def longest(self) -> int:
        """The most tokens, prompt and answer together, of a request that runs alone."""
        room = self.soft - self.weights - self.per_row
        return max(0, room // self.per_token) if self.per_token else 2**63

    def admits(self, rows: Sequence[int], new: int, prefixes: int = 0) -> bool:
        """Whether a row of `new` tokens may join these rows; `prefixes` is the bytes of shared prefixes."""
        return self.weights + prefixes + self.batch([*rows, new]) <= self.soft

    def must_shed(self, used: int) -> bool:
        """Whether the measured memory in use is over the limit."""
        return used > self.limit
