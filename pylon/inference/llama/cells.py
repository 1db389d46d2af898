"""How many tokens a fixed pool of memory holds, and what may start in it: values in, decisions out."""

from collections.abc import Iterable
from dataclasses import dataclass

from pylon.inference.memory import OF_PREFIXES, MemoryPlan

# For each row, where memory has it: what is not taken by one is there for a longer one.
ROW_TOKENS = 4_096
# llama.cpp lays cells out in blocks of so many.
_BLOCK = 256


@dataclass(frozen=True, slots=True)
class CellPlan:
    """A pool of `total` cells, each the state of one token. It is taken from memory when the model loads."""

    total: int

    @classmethod
    def within(cls, memory: MemoryPlan, rows: int, sequences: int, context: int) -> "CellPlan":
        """For so many rows of at most `context` tokens; `sequences` take their fixed part at once."""
        room = memory.soft - memory.weights - sequences * memory.per_row
        wished = rows * min(context, ROW_TOKENS)
        if room < 0:
            return cls(0)
        total = min(wished, room // memory.per_token) if memory.per_token else wished
        return cls(total // _BLOCK * _BLOCK)

    @property
    def of_heads(self) -> int:
        """The most that shared heads may have together."""
        return int(self.total * OF_PREFIXES)

    def free(self, own: Iterable[int], heads: int) -> int:
        """Cells that nobody holds or may come to hold: `own` are rows' tokens behind their heads."""
        return self.total - heads - sum(own)
