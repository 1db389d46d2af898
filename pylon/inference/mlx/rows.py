"""The rows of the MLX engine: one group of prompts that are being read, and the batch of answers being decoded.

It uses mlx_lm's caches directly and not its batch generator, which copies the whole state of a group when decoding
starts, and that of the whole batch whenever a row ends.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from pylon.inference.batching.interfaces import Token
from pylon.inference.mlx.batch import Batch, Row
from pylon.inference.mlx.prefix_rows import behind, read, takes_apart

# Tokens that are read in one step: of a whole group, and of one prompt.
STEP_TOKENS = 2_048
ROW_TOKENS = 512
# Small groups are read one after the other and then decoded together, up to so many tokens.
_STALL_TOKENS = STEP_TOKENS + ROW_TOKENS
# Tokens at once on a processor, which is fastest while its data fits into the cache.
_CACHED_TOKENS = 1_024
_LEAST_TOKENS = 24
# Tokens of an answer for which room is made at the start; the state of a longer one grows.
_ANSWER_TOKENS = 256
# Steps after which MLX gives its freed memory back.
_CLEAR_EVERY = 512
# Rows that ended stay in the batch until they are this share of it, since removing them copies all others.
_ENDED = 0.25


@dataclass(slots=True)
class _Group:
    """Prompts that are read together. `left` are the tokens of each row that are not read yet."""

    rows: list[Row]
    layers: list[Any]
    left: list[list[int]]
    begun: bool = False

    @property
    def size(self) -> int:
        """The number of tokens that are not read yet."""
        return sum(len(left) - 1 for left in self.left)

    @property
    def small(self) -> bool:
        """Whether it can be read in one step."""
        return not self.begun and self._chunk() >= max(len(left) for left in self.left) - 1

    def next_parts(self) -> list[list[int]]:
        """The tokens to read next. The last token of a prompt is decoded instead, which gives the answer's first."""
        chunk = self._chunk()
        return [left[: min(chunk, len(left) - 1)] for left in self.left]

    def _chunk(self) -> int:
        most = max(_LEAST_TOKENS, min(ROW_TOKENS, STEP_TOKENS // len(self.rows)))
        return _evenly(max(len(left) for left in self.left) - 1, most)


class Rows:
    """Reads and decodes rows. All calls are made within one MLX stream. `accelerated`: MLX computes on a GPU."""

    def __init__(self, network: Any, stop_tokens: Iterable[int], *, accelerated: bool) -> None:
        self._network = network
        self._apart = not accelerated and takes_apart(network)
        self._stops = frozenset(stop_tokens)
        self._at_once = STEP_TOKENS if accelerated else _CACHED_TOKENS
        self._group: _Group | None = None
        self._batch = Batch(network, ahead=accelerated)
        self._ended: set[int] = set()
        self._unheard = 0  # tokens that were read since the last decoding step
        self._steps = 0

    @property
    def reading(self) -> bool:
        """Whether a group is being read. Until it is done, no other is started."""
        return self._group is not None

    def start(self, rows: Sequence[Row], state: list[Any] | None) -> None:
        """Starts to read prompts that share a prefix. `state` is the state of that prefix, which is not changed."""
        longest = max(len(row.tokens) + min(row.remaining, _ANSWER_TOKENS) for row in rows)
        layers = behind(state or make_prompt_cache(self._network), len(rows), longest, apart=self._apart)
        self._group = _Group(list(rows), layers, [row.tokens for row in rows])

    def step(self) -> list[Token]:
        """Decodes the next token of each row, and reads a part of the group. A small group is read first."""
        self._steps += 1
        if self._steps % _CLEAR_EVERY == 0:
            mx.clear_cache()
        heard: list[Token] = []
        if self._group is None or self._unheard + self._group.size > _STALL_TOKENS or not self._group.small:
            heard = self._decode()
            self._unheard = 0
        if self._group is not None:
            self._unheard += self._group.size
            self._read(self._group)
        return heard

    def _read(self, group: _Group) -> None:
        """Reads the next part of a group, and adds it to the batch when all of it is read."""
        parts = group.next_parts()
        group.begun = True
        if any(parts):
            self._take_in(parts, group.layers)
            group.left = [left[len(part) :] for left, part in zip(group.left, parts, strict=True)]
        if all(len(left) == 1 for left in group.left):
            self._take_out()
            self._batch.join(group.rows, group.layers, [left[0] for left in group.left])
            self._group = None

    def _take_in(self, parts: Sequence[Sequence[int]], layers: list[Any]) -> None:
        """Reads parts into the state. Unequal ones are padded on the right; the padding is then removed again."""
        lengths = [len(part) for part in parts]
        width = max(lengths)
        padding = [width - length for length in lengths]
        tokens = mx.array([[*part, *[0] * more] for part, more in zip(parts, padding, strict=True)])
        if any(padding):
            for layer in layers:
                layer.prepare(lengths=lengths, right_padding=padding)
        at_once = _evenly(width, max(_LEAST_TOKENS, self._at_once // len(parts)))
        for begin in range(0, width, at_once):
            read(self._network, tokens[:, begin : begin + at_once], layers)
        if any(padding):
            for layer in layers:
                layer.finalize()
            mx.eval([layer.state for layer in layers])

    def _decode(self) -> list[Token]:
        heard = [self._next(row, token) for row, token in self._batch.step() if row.uid not in self._ended]
        self._ended |= {token.uid for token in heard if token.finish is not None}
        if len(self._ended) >= _ENDED * len(self._batch.rows):
            self._take_out()
        return heard

    def _next(self, row: Row, token: int) -> Token:
        row.remaining -= 1
        if token in self._stops:
            return Token(row.uid, token, "stop")
        return Token(row.uid, token, None if row.remaining else "length")

    def remove(self, uid: int) -> None:
        """Removes a row at once, whether it is being read or decoded."""
        group = self._group
        if group is None or all(row.uid != uid for row in group.rows):
            self._ended.add(uid)
            self._take_out()
            return
        keep = [place for place, row in enumerate(group.rows) if row.uid != uid]
        if not keep:
            self._group = None
            return
        for layer in group.layers:
            layer.filter(keep)
        group.rows = [group.rows[place] for place in keep]
        group.left = [group.left[place] for place in keep]

    def _take_out(self) -> None:
        """Removes the rows that ended from the batch."""
        if self._ended:
            self._batch.keep([place for place, row in enumerate(self._batch.rows) if row.uid not in self._ended])
            self._ended.clear()


def _evenly(tokens: int, most: int) -> int:
    """Tokens to read at a time, about `most`, in equal parts: a short last one costs nearly as much as a full one."""
    return max(1, math.ceil(tokens / max(1, round(tokens / most))))
