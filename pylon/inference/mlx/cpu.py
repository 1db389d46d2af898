"""Faster attention and SiLU for MLX on a processor, with numpy's exponential.

MLX's wheel for x86 computes an exponential for one number at a time, in about 24 ns; numpy computes eight at once, in
about 2 ns each. What then remains of attention is mostly matrix products, and for a prefix that rows share these are
one product for all rows.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from pylon.inference.mlx import heap

type Floats = NDArray[np.float32]

# Numbers that fit into a core's own cache.
_BLOCK = 32_768
# Added to the scores of masked positions. Infinity would make a row that is fully masked NaN.
_NEVER = np.float32(-1e30)


@dataclass(frozen=True, slots=True)
class PrefixStates:
    """Keys or values that so many adjacent rows share, (heads, tokens, width); None if they share none."""

    rows: int
    states: mx.array | None


@dataclass(frozen=True, slots=True)
class Apart:
    """The rows' own keys or values, (rows, heads, tokens, width), and those of the shared prefixes before them.

    Unless `wanted`, the output of the network from this layer on is discarded.
    """

    own: mx.array
    prefixes: Sequence[PrefixStates]
    wanted: bool


@dataclass(slots=True)
class _Output:
    """Whether the output of the network is used from here on."""

    used: bool = True


_output = _Output()


@functools.cache
def install() -> None:
    """Makes mlx_lm's networks in this process use these functions, for MLX on a processor."""
    heap.keep_freed()
    mx.disable_compile()  # numpy needs values, which a compiled function does not have yet
    mx.fast.scaled_dot_product_attention = _attention(mx.fast.scaled_dot_product_attention)
    nn.silu = _silu(nn.silu)


@contextlib.contextmanager
def output_may_be_discarded() -> Iterator[None]:
    """Around a run of the network whose keys may not be `wanted`."""
    try:
        yield
    finally:
        _output.used = True


def _silu(plain: Callable[[mx.array], mx.array]) -> Callable[[mx.array], mx.array]:
    @functools.wraps(plain)
    def silu(x: mx.array) -> mx.array:
        if x.dtype != mx.float32 or not _output.used:
            return plain(x)
        powers = -x
        mx.eval(powers)
        seen = np.array(powers, copy=False)
        with np.errstate(over="ignore"):
            np.exp(seen, out=seen)
        return x / (1 + powers)

    return silu


def _attention(plain: Callable[..., mx.array]) -> Callable[..., mx.array]:
    """Attention with numpy; `plain` is MLX's own, for the cases that this does not cover."""
    hidden = _Hidden()

    @functools.wraps(plain)
    def attention(
        queries: mx.array, keys: Any, values: Any, *, scale: float, mask: Any = None, **more: Any
    ) -> mx.array:
        if not isinstance(keys, Apart):
            unlike = queries.dtype != mx.float32 or any(each is not None for each in more.values())
            if unlike or not _one_for_all_heads(mask, queries.shape[2], keys.shape[2]):
                return plain(queries, keys, values, scale=scale, mask=mask, **more)
            keys, values = (
                Apart(each, [PrefixStates(queries.shape[0], None)], wanted=True) for each in (keys, values)
            )
        if not keys.wanted:
            _output.used = False
            return mx.zeros_like(queries)
        rows, heads, tokens, width = queries.shape
        # Query heads that share a key head are adjacent.
        grouped = (queries * scale).reshape(rows, keys.own.shape[1], -1, width)
        added = hidden.added(mask, tokens, keys.own.shape[2], heads // keys.own.shape[1])
        return _attend(grouped, keys, values, added).reshape(rows, heads, tokens, -1)

    return attention


def _one_for_all_heads(mask: Any, queries: int, keys: int) -> bool:
    if mask is None or isinstance(mask, str):
        return True
    return bool(mask.shape[-2:] == (queries, keys) and (mask.ndim < 3 or mask.shape[-3] == 1))


class _Hidden:
    """Turns masks into numbers to add to the scores. Caches the last one, which all layers of a network ask for."""

    def __init__(self) -> None:
        self._asked: tuple[Any, int] = None, 0
        self._added: Floats | None = None

    def added(self, mask: Any, queries: int, keys: int, repeated: int) -> Floats | None:
        """The mask as (rows or 1, 1, `repeated` times `queries`, `keys`); None if it hides nothing."""
        if mask is None:
            return None
        if isinstance(mask, str):
            return _causal(queries, keys, repeated)
        if self._asked[0] is not mask or self._asked[1] != repeated:
            seen = np.array(mask)
            if seen.dtype == np.bool_:
                seen = np.where(seen, np.float32(0), _NEVER)
            seen = seen.reshape(-1, 1, queries, keys)
            self._asked, self._added = (mask, repeated), np.tile(seen, (1, 1, repeated, 1)) if seen.any() else None
        return self._added


@functools.lru_cache(maxsize=4)
def _causal(queries: int, keys: int, repeated: int) -> Floats:
    return np.tile(np.triu(np.full((queries, keys), _NEVER), keys - queries + 1), (1, 1, repeated, 1))


def _attend(queries: mx.array, keys: Apart, values: Apart, added: Floats | None) -> mx.array:
    """Attention of scaled queries, with a softmax over each row's shared prefix and its own tokens together."""
    own = queries @ keys.own.swapaxes(-1, -2)
    shared, places, at = [], [], 0
    for prefix in keys.prefixes:
        places.append(slice(at, at + prefix.rows))
        at += prefix.rows
        shared.append(
            None if prefix.states is None else _together(queries[places[-1]]) @ prefix.states.swapaxes(-1, -2)
        )
    mx.eval(own, [scores for scores in shared if scores is not None])
    sums = np.empty((*own.shape[:3], 1), np.float32)
    for place, scores in zip(places, shared, strict=True):
        seen = None if scores is None else _apart(np.array(scores, copy=False), own.shape[2])
        hide = added if added is None or len(added) == 1 else added[place]
        _softmax(np.array(own, copy=False)[place], seen, hide, sums[place])
    attended = own @ values.own
    if any(scores is not None for scores in shared):
        attended = attended + mx.concatenate(
            [
                mx.zeros_like(attended[place])
                if scores is None or prefix.states is None
                else _apart(scores @ prefix.states, own.shape[2]).swapaxes(0, 1)
                for place, scores, prefix in zip(places, shared, values.prefixes, strict=True)
            ]
        )
    return attended / mx.array(sums)


def _together(queries: mx.array) -> mx.array:
    """(rows, heads, tokens, width) to (heads, rows times tokens, width)."""
    return queries.swapaxes(0, 1).reshape(queries.shape[1], -1, queries.shape[3])


def _apart[A: (mx.array, Floats)](together: A, tokens: int) -> A:
    """(heads, rows times tokens, width) to (heads, rows, tokens, width)."""
    return together.reshape(together.shape[0], -1, tokens, together.shape[2])


def _softmax(own: Floats, prefix: Floats | None, added: Floats | None, sums: Floats) -> None:
    """Makes scores the numerators of a softmax over both, in their place; their sums go into `sums`.

    `own` and `added` are (rows, heads, queries, keys), `prefix` is (heads, rows, queries, keys).
    """
    rows, heads, queries, keys = own.shape
    step = max(1, _BLOCK // (queries * (keys + (0 if prefix is None else prefix.shape[3]))))
    for at in range(heads):
        for begin in range(0, rows, step):
            some = slice(begin, begin + step)
            mine = own[some, at]
            if added is not None:
                mine += added[some if len(added) > 1 else slice(1), 0]
            most = mine.max(axis=-1, keepdims=True)
            parts = [mine]
            if prefix is not None:
                parts.append(prefix[at, some])
                np.maximum(most, parts[1].max(axis=-1, keepdims=True), out=most)
            for part in parts:
                part -= most
                np.exp(part, out=part)
            sums[some, at] = sum(part.sum(axis=-1, keepdims=True) for part in parts)
