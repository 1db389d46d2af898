"""The MLX engine: prompts of similar length are read in groups, and join one running batch.

A batch has one source of randomness, so the draws of a seeded request would depend on the others: it runs alone.
"""

import os
from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from pylon.host.memory import used_bytes
from pylon.inference.batching.batched import BatchedEngine
from pylon.inference.batching.prefix_cache import PrefixCache
from pylon.inference.batching.prefixes import Prefix
from pylon.inference.batching.request import BatchedRequest
from pylon.inference.engine import ModelInfo, Sampling
from pylon.inference.mlx import cpu, heap
from pylon.inference.mlx.batch import Row
from pylon.inference.mlx.grouping import alike
from pylon.inference.mlx.headroom import Headroom
from pylon.inference.mlx.model import LogitsProcessor, MlxModel, drawing, greedy, logits_processors, schema_processor
from pylon.inference.mlx.rows import ROW_TOKENS, Rows

# Tokens of a group of prompts, about: in a larger one all would wait for the last.
GROUP_TOKENS = 8_192


def _in_use() -> int:
    # On Metal the size of the process does not include all of its buffers.
    return max(used_bytes(), mx.get_active_memory())


class MlxEngine(BatchedEngine):
    """Implements `Engine` by MLX."""

    _model: MlxModel
    _rows: Rows

    def load(self) -> ModelInfo:
        accelerated = mx.default_device() != mx.Device(mx.cpu)
        if not accelerated:
            cpu.install()
        self._model = MlxModel.load(self._spec)
        self._headroom = Headroom(self._model.memory, _in_use, self._clock)
        self._rows = Rows(self._model.network, self._model.stop_tokens(), accelerated=accelerated)
        self._stream = mx.new_stream(mx.default_device())
        with self._computing():
            self._prefixes = PrefixCache(self._model, self._model.memory.prefix_bytes, ROW_TOKENS)
        return self._model.info

    def _computing(self) -> Any:
        return mx.stream(self._stream)

    def _longest(self) -> int:
        return self._model.memory.longest()

    def _longest_prefix(self, first: BatchedRequest) -> int:
        memory = self._model.memory
        batch = memory.batch([each.length for each in (*self._running.values(), first)])
        spare = memory.soft - memory.weights - self._prefixes.size - batch
        return self._model.longest_prefix(min(memory.prefix_bytes, spare))

    def _admits(self, running: Sequence[BatchedRequest], new: BatchedRequest) -> bool:
        return self._headroom.admits([each.length for each in running], new.length, self._prefixes.size)

    def _over(self, *, now: bool = False) -> bool:
        return self._headroom.over(now=now)

    def _give_back(self) -> None:
        mx.clear_cache()
        heap.give_back()

    def _together(self, lengths: Sequence[int], free: int) -> list[int]:
        return alike(lengths, min(free, max(1, GROUP_TOKENS // lengths[0])))

    def _begin(self, group: Sequence[BatchedRequest], prefix: Prefix[list[Any]] | None) -> None:
        if group[0].alone:
            mx.random.seed((group[0].sampling.seed or 0) % 2**64)
        self._rows.start([self._row(sequence) for sequence in group], prefix.state if prefix else None)

    def _row(self, sequence: BatchedRequest) -> Row:
        return Row(
            sequence.uid,
            sequence.tokens[sequence.known :],
            sequence.sampling.max_tokens,
            self._sampler(sequence.sampling),
            self._processors(sequence),
        )

    def _sampler(self, sampling: Sampling) -> Any:
        if sampling.greedy:
            return greedy
        # mlx_lm refuses a top_k of the whole vocabulary.
        top_k = sampling.top_k if 0 < sampling.top_k < len(self._model.tokenizer) else 0
        return drawing(sampling.temperature, sampling.top_p, top_k)

    def _processors(self, sequence: BatchedRequest) -> list[LogitsProcessor]:
        processors = logits_processors(sequence.sampling)
        # Last, so that no penalty brings back what the schema rules out.
        return processors if sequence.guide is None else [*processors, schema_processor(sequence.guide)]

    def _leave(self, sequence: BatchedRequest, *, still_generating: bool) -> None:
        super()._leave(sequence, still_generating=still_generating)
        if sequence.alone:
            # Otherwise the next request's draws would follow from this customer's seed.
            mx.random.seed(int.from_bytes(os.urandom(8), "big"))
