"""The MLX engine: prompts of like length are read in groups, and join one running batch.

A batch has one source of randomness, so beside others a seeded request's draws would depend on them: it runs alone.
"""

import os
from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from pylon.host.memory import used_bytes
from pylon.inference.batching.asked import Asked
from pylon.inference.batching.batched import BatchedEngine
from pylon.inference.batching.heads import Head, Heads
from pylon.inference.engine import ModelInfo, Sampling
from pylon.inference.mlx import cpu, heap
from pylon.inference.mlx.batch import Row
from pylon.inference.mlx.grouping import alike
from pylon.inference.mlx.headroom import Headroom
from pylon.inference.mlx.model import LogitsProcessor, MlxModel, drawing, greedy, logits_processors, schema_processor
from pylon.inference.mlx.rows import ROW_TOKENS, Rows

# Prompts that are read together have about so many tokens: those of a larger group would all wait for the last.
GROUP_TOKENS = 8_192


def _in_use() -> int:
    # On Metal the process's own size does not count all that its buffers hold.
    return max(used_bytes(), mx.get_active_memory())


class MlxEngine(BatchedEngine):
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
            self._heads = Heads(self._model, self._model.memory.prefix_bytes, ROW_TOKENS)
        return self._model.info

    def _computing(self) -> Any:
        return mx.stream(self._stream)

    def _longest(self) -> int:
        return self._model.memory.longest()

    def _longest_head(self, first: Asked) -> int:
        memory = self._model.memory
        batch = memory.batch([each.length for each in (*self._running.values(), first)])
        spare = memory.soft - memory.weights - self._heads.size - batch
        return self._model.longest_head(min(memory.prefix_bytes, spare))

    def _admits(self, running: Sequence[Asked], new: Asked) -> bool:
        return self._headroom.admits([each.length for each in running], new.length, self._heads.size)

    def _over(self, *, now: bool = False) -> bool:
        return self._headroom.over(now=now)

    def _give_back(self) -> None:
        mx.clear_cache()
        heap.give_back()

    def _together(self, lengths: Sequence[int], free: int) -> list[int]:
        return alike(lengths, min(free, max(1, GROUP_TOKENS // lengths[0])))

    def _begin(self, group: Sequence[Asked], head: Head[list[Any]] | None) -> None:
        if group[0].alone:
            mx.random.seed((group[0].sampling.seed or 0) % 2**64)
        self._rows.start([self._row(sequence) for sequence in group], head.state if head else None)

    def _row(self, sequence: Asked) -> Row:
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
        # mlx_lm refuses to cut to as many tokens as there are.
        top_k = sampling.top_k if 0 < sampling.top_k < len(self._model.tokenizer) else 0
        return drawing(sampling.temperature, sampling.top_p, top_k)

    def _processors(self, sequence: Asked) -> list[LogitsProcessor]:
        processors = logits_processors(sequence.sampling)
        # Last: no penalty can bring back what the schema rules out.
        return processors if sequence.guide is None else [*processors, schema_processor(sequence.guide)]

    def _leave(self, sequence: Asked, *, still_generating: bool) -> None:
        super()._leave(sequence, still_generating=still_generating)
        if sequence.alone:
            # Otherwise whoever comes next would draw what this customer's seed decided.
            mx.random.seed(int.from_bytes(os.urandom(8), "big"))
