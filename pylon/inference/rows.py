"""The rows that a network works on: one group of prompts being read, and the batch of answers being decoded.

On mlx_lm's two batches directly rather than on its batch generator, which copies a group's whole state when it goes
from the one to the other, and the whole batch's whenever a row ends.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_lm.generate import GenerationBatch, PromptProcessingBatch, StopSequences
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.sample_utils import greedy_sampler

from pylon.inference.batched import Token
from pylon.inference.mlx_model import LogitsProcessor, Sampler

# What MLX keeps of freed memory is given back every so many steps.
_CLEAR_EVERY = 512
# Rows that ended are computed on until they are this part of the batch: taking them out copies all others.
_ENDED = 0.25
_NO_STOPS = StopSequences()


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt from its head on: `tokens` come behind what the head's state holds."""

    uid: int
    tokens: list[int]
    max_tokens: int
    sampler: Sampler
    processors: list[LogitsProcessor]


class Rows:
    """`chunk` is how many tokens of each row are read at a time. All calls come within one MLX stream."""

    def __init__(self, network: Any, stop_tokens: Iterable[int], chunk: int) -> None:
        self._network = network
        self._stops = frozenset(stop_tokens)
        self._chunk = chunk
        self._reading: Any = PromptProcessingBatch.empty(network, greedy_sampler, chunk)
        self._left: list[list[int]] = []
        self._decoding: Any = GenerationBatch.empty(network, greedy_sampler)
        self._remaining: dict[int, int] = {}  # tokens that a row may still have
        self._ended: set[int] = set()
        self._steps = 0

    @property
    def reading(self) -> bool:
        """Whether a group is being read: until it is through, no other starts."""
        return bool(self._left)

    def start(self, group: Sequence[Row], head: Sequence[int], state: list[Any] | None) -> None:
        """Begins to read prompts that share this head; `state` is what the network made of it, and stays as it is."""
        self._take_out()
        self._remaining |= {row.uid: row.max_tokens for row in group}
        self._left = [list(row.tokens) for row in group]
        self._reading = PromptProcessingBatch(
            self._network,
            [row.uid for row in group],
            [state or make_prompt_cache(self._network) for _ in group],
            tokens=[list(head) for _ in group],
            prefill_step_size=self._chunk,
            samplers=[row.sampler for row in group],
            fallback_sampler=greedy_sampler,
            logits_processors=[row.processors for row in group],
            # When a row ends is decided here, not there.
            stop_sequences=[_NO_STOPS] * len(group),
            max_tokens=[row.max_tokens for row in group],
        )

    def step(self) -> list[Token]:
        """The next token of each row in the batch; then one chunk of the group that is being read."""
        heard = self._decode()
        self._read()
        return heard

    def _read(self) -> None:
        """A group that is through joins the batch."""
        if not self._left:
            return
        # A row's last token is not read but decoded: what comes of it is the answer's first.
        parts = [left[: min(self._chunk, len(left) - 1)] for left in self._left]
        if any(parts):
            self._reading.prompt(parts)
            self._left = [left[len(part) :] for left, part in zip(self._left, parts, strict=True)]
        if all(len(left) == 1 for left in self._left):
            self._take_out()
            self._decoding.extend(self._reading.generate(self._left))
            self._left = []

    def _decode(self) -> list[Token]:
        if not self._decoding.uids:
            return []
        self._steps += 1
        if self._steps % _CLEAR_EVERY == 0:
            mx.clear_cache()
        # Its public `next` takes each ended row out at once; mlx-lm is pinned to the version that has this.
        tokens, _ = self._decoding._step()
        heard = [
            self._next(uid, token)
            for uid, token in zip(self._decoding.uids, tokens, strict=True)
            if uid not in self._ended
        ]
        self._ended |= {token.uid for token in heard if token.finish is not None}
        if len(self._ended) >= _ENDED * len(self._decoding.uids):
            self._take_out()
        return heard

    def remove(self, uid: int) -> None:
        """Lets a row go at once, whether it is read or decoded."""
        if uid in self._decoding.uids:
            self._ended.add(uid)
            self._take_out()
        elif self._left:
            keep = [place for place, each in enumerate(self._reading.uids) if each != uid]
            self._reading.filter(keep)
            self._left = [self._left[place] for place in keep]
        self._remaining.pop(uid, None)

    def _next(self, uid: int, token: int) -> Token:
        self._remaining[uid] -= 1
        if token in self._stops:
            return Token(uid, token, "stop")
        return Token(uid, token, None if self._remaining[uid] else "length")

    def _take_out(self) -> None:
        """Takes the rows that ended out of the batch."""
        if not self._ended:
            return
        self._decoding.filter([place for place, uid in enumerate(self._decoding.uids) if uid not in self._ended])
        for uid in self._ended:
            self._remaining.pop(uid, None)
        self._ended.clear()
