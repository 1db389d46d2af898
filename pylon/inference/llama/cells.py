"""Decides how many tokens a fixed pool of memory holds, and what may start in it; pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from pylon.inference.memory import OF_PREFIXES, MemoryPlan

# Tokens for each row, if memory has room: what one row does not use is there for a longer one.
ROW_TOKENS = 4_096
# llama.cpp allocates cells in blocks of so many.
_BLOCK = 256


@dataclass(frozen=True, slots=True)
class CellPlan:
    """A pool of `total` cells, each the state of one token. It is taken from memory when the model loads."""

    total: int

    @classmethod
    def within(cls, memory: MemoryPlan, rows: int, sequences: int, context: int) -> "CellPlan":
        """The pool for so many rows of at most `context` tokens; `sequences` take their fixed part at once."""
        room = memory.soft - memory.weights - sequences * memory.per_row
        wished = rows * min(context, ROW_TOKENS)
        if room < 0:
            return cls(0)
        total = min(wished, room // memory.per_token) if memory.per_token else wished
        return cls(total // _BLOCK * _BLOCK)

    @property
    def of_prefixes(self) -> int:
        """The most cells that shared prefixes may have together."""
        return int(self.total * OF_PREFIXES)

    def free(self, own: Iterable[int], prefixes: int) -> int:
        """Cells that are free and not reserved. `own` are the tokens of rows behind their prefixes."""
        return self.total - prefixes - sum(own)
