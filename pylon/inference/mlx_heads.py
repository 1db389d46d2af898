"""A batch's keys and values with the heads of its rows apart: each head is kept once, however many rows share it."""

from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import BatchKVCache, KVCache

from pylon.inference.mlx_cpu import Apart, Head


class RowsBehindHeads(BatchKVCache):  # type: ignore[misc]
    """As an mlx_lm cache, of what rows have of their own; attention of `mlx_cpu` puts both together."""

    def __init__(self, head: KVCache | None, rows: int, longest: int) -> None:
        """There is room for `longest` tokens of each row's own, where the head shows how wide they are."""
        super().__init__([0] * rows)
        self._heads: list[tuple[KVCache | None, int]] = [(head, rows)]
        # Whether the network's output is looked at, and not only what it leaves here.
        self.wanted = True
        if head is not None:
            self.offset = self.offset + head.offset
            self.keys, self.values = (
                mx.zeros((rows, states.shape[1], longest, states.shape[3]), states.dtype)
                for states in (head.keys, head.values)
            )

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Apart, Apart]:
        own_keys, own_values = super().update_and_fetch(keys, values)
        heads = [(rows, *(head.keys_and_values() if head else (None, None))) for head, rows in self._heads]
        return (
            Apart(own_keys, [Head(rows, _only(states)) for rows, states, _ in heads], self.wanted),
            Apart(own_values, [Head(rows, _only(states)) for rows, _, states in heads], self.wanted),
        )

    def filter(self, places: Any) -> None:
        super().filter(places)
        ends = np.cumsum([rows for _, rows in self._heads])
        left = np.bincount(np.searchsorted(ends, places, side="right"), minlength=len(ends))
        self._heads = [(head, int(rows)) for (head, _), rows in zip(self._heads, left, strict=True) if rows]

    def extend(self, other: "RowsBehindHeads") -> None:
        super().extend(other)
        for head, rows in other._heads:
            last, before = self._heads[-1] if self._heads else (None, 0)
            if last is head and before:
                self._heads[-1] = head, before + rows
            else:
                self._heads.append((head, rows))


def _only(states: mx.array | None) -> mx.array | None:
    """Those of a batch of one."""
    return None if states is None else states[0]
