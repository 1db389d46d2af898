"""The batch of answers that are decoded together: one state for all rows, and a sampler for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from pylon.inference.mlx.model import LogitsProcessor, Sampler


@dataclass(slots=True, eq=False)
class Row:
    """One row. `tokens` is its prompt behind the shared prefix, `remaining` the tokens its answer may still have.

    `answered` are the tokens of its answer so far, if a logits processor needs them.
    """

    uid: int
    tokens: list[int]
    remaining: int
    sampler: Sampler
    processors: list[LogitsProcessor]
    answered: mx.array | None = None


class Batch:
    """The rows that are decoded. With `ahead`, the next tokens are computed while the caller handles the last ones.

    On an accelerator this hides the caller's time; on a processor it would only compete for cores.
    """

    def __init__(self, network: Any, *, ahead: bool) -> None:
        self._network = network
        self._looks_ahead = ahead
        self.rows: list[Row] = []
        self._layers: list[Any] = []
        self._tokens = mx.array([], dtype=mx.int32)  # the last of each row
        self._next: mx.array | None = None

    def join(self, rows: list[Row], layers: list[Any], tokens: list[int]) -> None:
        """Adds rows whose prompts are read up to the last token; `tokens` are these last ones."""
        new = mx.array(tokens, dtype=mx.int32)
        if self._next is not None:
            self._next = mx.concatenate([self._next, self._compute(rows, layers, new)])
        self._tokens = mx.concatenate([self._tokens, new])
        if self.rows:
            for layer, other in zip(self._layers, layers, strict=True):
                layer.extend(other)
        else:
            self._layers = layers
        self.rows += rows

    def keep(self, places: list[int]) -> None:
        """Keeps only the rows at these places."""
        self.rows = [self.rows[place] for place in places]
        if not places:
            self._layers, self._next = [], None
            self._tokens = self._tokens[:0]
            return
        for layer in self._layers:
            layer.filter(places)
        chosen = mx.array(places)
        self._tokens = self._tokens[chosen]
        self._next = None if self._next is None else self._next[chosen]

    def step(self) -> list[tuple[Row, int]]:
        """Computes the next token of each row."""
        if not self.rows:
            return []
        self._tokens = self._compute(self.rows, self._layers, self._tokens) if self._next is None else self._next
        self._next = None
        if self._looks_ahead and any(row.remaining > 1 for row in self.rows):
            self._next = self._compute(self.rows, self._layers, self._tokens)
            mx.async_eval(self._next)  # type: ignore[no-untyped-call]
        chosen: Any = self._tokens.tolist()
        return list(zip(self.rows, chosen, strict=True))

    def _compute(self, rows: list[Row], layers: list[Any], tokens: mx.array) -> mx.array:
        logits = self._network(tokens[:, None], cache=layers)[:, -1]
        if any(row.processors for row in rows):
            each = [_processed(row, logits[place : place + 1], tokens, place) for place, row in enumerate(rows)]
            logits = mx.concatenate(each)
        return _sampled(rows, logits)


def _processed(row: Row, logits: mx.array, tokens: mx.array, place: int) -> mx.array:
    if not row.processors:
        return logits
    if row.answered is None:  # the first step reads the last token of the prompt
        row.answered = mx.array([], dtype=mx.int32)
    else:
        row.answered = mx.concatenate([row.answered, tokens[place : place + 1]])
    for process in row.processors:
        logits = process(row.answered, logits)
    return logits


def _sampled(rows: Sequence[Row], logits: mx.array) -> mx.array:
    """Samples the next tokens; rows with the same sampler together."""
    places: dict[Sampler, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row.sampler, []).append(place)
    if len(places) == 1:
        return rows[0].sampler(logits).astype(mx.int32)
    tokens = mx.zeros((len(rows),), dtype=mx.int32)
    for sampler, those in places.items():
        at = mx.array(those)
        tokens[at] = sampler(logits[at]).astype(mx.int32)
    return tokens
