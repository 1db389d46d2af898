"""The state of rows that start from a shared prefix: copies of it, or on a processor one that stays apart.

Attention to a prefix that stays apart is one product for all its rows instead of one for each, and nothing is copied
when rows start, join others or leave.
"""

from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import BatchKVCache, KVCache, make_prompt_cache

from pylon.inference.mlx.cpu import Apart, PrefixStates, output_may_be_discarded


def behind(prefix: list[Any], rows: int, longest: int, *, apart: bool) -> list[Any]:
    """The state of so many rows that start from one prefix, kept `apart` or copied.

    It has room for `longest` more tokens of each row, since growing a state copies all of it.
    """
    return [
        RowsBehindPrefixes(None if layer.empty() else layer, rows, longest)
        if apart and type(layer) is KVCache
        else _copies(layer, rows, longest)
        for layer in prefix
    ]


def _copies(layer: Any, rows: int, longest: int) -> Any:
    if type(layer) is not KVCache or layer.empty():
        return layer.merge([layer] * rows)
    size = layer.offset

    def spread(states: mx.array) -> mx.array:
        _, heads, _, width = states.shape
        room = mx.broadcast_to(mx.zeros((), dtype=states.dtype), (rows, heads, longest, width))
        return mx.concatenate([mx.broadcast_to(states[..., :size, :], (rows, heads, size, width)), room], axis=2)

    nothing = mx.zeros((rows,), dtype=mx.int32)
    copies = BatchKVCache([0])
    copies.state = spread(layer.keys), spread(layer.values), nothing + size, nothing, size
    return copies


class RowsBehindPrefixes(BatchKVCache):  # type: ignore[misc]
    """mlx_lm's cache for the rows' own tokens, with the shared prefixes before them; `cpu.py` attends to both."""

    def __init__(self, prefix: KVCache | None, rows: int, longest: int) -> None:
        """`longest` is the own tokens of each row to make room for, if there is a prefix that shows their width."""
        super().__init__([0] * rows)
        self.offset: mx.array
        self._prefixes: list[tuple[KVCache | None, int]] = [(prefix, rows)]
        # Whether the output of the network is used; see `Apart`.
        self.wanted = True
        if prefix is not None:
            self.offset = self.offset + prefix.offset
            self.keys, self.values = (
                mx.zeros((rows, states.shape[1], longest, states.shape[3]), states.dtype)
                for states in (prefix.keys, prefix.values)
            )

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Apart, Apart]:
        own = super().update_and_fetch(keys, values)
        prefixes = [
            (rows, *(prefix.keys_and_values() if prefix else (None, None))) for prefix, rows in self._prefixes
        ]
        shared = (
            [PrefixStates(rows, None if states is None else states[0]) for rows, states, _ in prefixes],
            [PrefixStates(rows, None if states is None else states[0]) for rows, _, states in prefixes],
        )
        return Apart(own[0], shared[0], self.wanted), Apart(own[1], shared[1], self.wanted)

    def filter(self, batch_indices: list[int]) -> None:
        """Keeps these rows; `batch_indices` are in ascending order."""
        super().filter(batch_indices)
        ends = np.cumsum([rows for _, rows in self._prefixes])
        left = np.bincount(np.searchsorted(ends, batch_indices, side="right"), minlength=len(ends))
        self._prefixes = [(prefix, int(rows)) for (prefix, _), rows in zip(self._prefixes, left, strict=True) if rows]

    def extend(self, other: "RowsBehindPrefixes") -> None:
        super().extend(other)
        for prefix, rows in other._prefixes:
            last, before = self._prefixes[-1]
            if last is prefix:
                self._prefixes[-1] = prefix, before + rows
            else:
                self._prefixes.append((prefix, rows))


def read(network: Any, tokens: mx.array, layers: list[Any]) -> None:
    """Reads tokens, (rows, tokens), into the state, and discards the output of the network.

    So the attention of its last layer, and what follows, need not be computed.
    """
    last = layers[-1]
    if isinstance(last, RowsBehindPrefixes):
        last.wanted = False
    with output_may_be_discarded():
        network(tokens, cache=layers)
        mx.eval([layer.state for layer in layers])
    if isinstance(last, RowsBehindPrefixes):
        last.wanted = True


def takes_apart(network: Any) -> bool:
    """Whether a network computes the same with prefixes apart as with copies: some read the keys themselves."""
    prefix = make_prompt_cache(network)
    network(mx.array([[1, 2, 3]]), cache=prefix)
    if any(layer.keys.dtype != mx.float32 for layer in prefix if type(layer) is KVCache):
        return False
    said = []
    for apart in (False, True):
        layers = behind(prefix, 2, 2, apart=apart)
        try:
            read(network, mx.array([[4], [5]]), layers)
            said.append(network(mx.array([[6], [7]]), cache=layers))
        except Exception:  # whatever its code raises for keys that are no arrays
            return False
    return bool(mx.allclose(said[0], said[1], rtol=1e-3, atol=1e-3))
