"""The llama.cpp engine: GGUF models, many sequences in one context, shared prefixes copied without computing.

For Linux servers and containers, where MLX has nothing but a slow processor path; it runs on a Mac as well.
"""

from collections.abc import Sequence
from dataclasses import replace

from pylon.errors import EngineFailedError
from pylon.inference.batching.batched import BatchedEngine
from pylon.inference.batching.prefix_cache import PrefixCache
from pylon.inference.batching.prefixes import Prefix
from pylon.inference.batching.request import BatchedRequest
from pylon.inference.engine import ModelInfo
from pylon.inference.llama.model import BATCH_TOKENS, LlamaModel
from pylon.inference.llama.rows import LlamaRow, LlamaRows
from pylon.inference.llama.sampling import Picker


class LlamaEngine(BatchedEngine):
    """Implements `Engine` by llama.cpp."""

    _model: LlamaModel
    _rows: LlamaRows

    def load(self) -> ModelInfo:
        self._model = LlamaModel(self._spec)
        self._spec = replace(self._spec, slots=self._model.slots)
        self._rows = LlamaRows(self._model)
        memory, cells = self._model.memory, self._model.cells
        self._prefixes = PrefixCache(self._model, cells.of_prefixes * memory.per_token, BATCH_TOKENS)
        self._template = self._prefixes.held  # the chat template, which stays
        return self._model.info

    def _make_room(self, tokens: int) -> None:
        running = list(self._running.values())
        if self._free(running) < tokens:
            self._prefixes.clear()
        if self._free(running) < tokens:
            raise EngineFailedError("all memory for prompts is taken")

    def close(self) -> None:
        model = self._model
        super().close()
        model.close()

    def _longest(self) -> int:
        return self._model.cells.total - self._template

    def _longest_prefix(self, first: BatchedRequest) -> int:
        return min(self._model.cells.of_prefixes, self._free([*self._running.values(), first]))

    def _admits(self, running: Sequence[BatchedRequest], new: BatchedRequest) -> bool:
        return self._free([*running, new]) >= 0

    def _free(self, rows: Sequence[BatchedRequest]) -> int:
        """Free cells beside these rows. A removed prefix keeps its cells as long as a row starts from it."""
        lingering = {
            id(row.prefix): row.known for row in rows if row.prefix is not None and row.prefix not in self._prefixes
        }
        own = (row.length - row.known for row in rows)
        return self._model.cells.free(own, self._prefixes.held + sum(lingering.values()))

    def _together(self, lengths: Sequence[int], free: int) -> list[int]:
        """Any prompts, since llama.cpp does not pad."""
        return list(range(min(len(lengths), free)))

    def _begin(self, group: Sequence[BatchedRequest], prefix: Prefix[int] | None) -> None:
        for asked in group:
            state = self._model.copy_state(prefix.state) if prefix is not None else self._model.new_state()
            left, picker = asked.tokens[asked.known :], Picker(asked.sampling, asked.guide)
            self._rows.start(LlamaRow(asked.uid, state, left, asked.sampling.max_tokens, picker))
