"""A loaded GGUF model: its weights, one context, and the sequences in it.

All sequences lie in one pool of cells, a token each. A copy of a sequence is the same cells under a further number,
so a shared prefix takes its cells once however many rows go on from it. No sequence is ever cut: only whole ones are
copied and removed, which models with a recurrent part (such as LFM2) can do as well.
"""

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from pylon.errors import EngineFailedError, ModelError, NoRoomError
from pylon.host.memory import free_bytes, total_bytes
from pylon.inference.batching.prefixes import MOST_PREFIXES
from pylon.inference.batching.score import ROWS
from pylon.inference.blas import processors, threads_for
from pylon.inference.engine import EngineSpec, Message, ModelInfo
from pylon.inference.llama.cells import CellPlan
from pylon.inference.llama.text import Chat, StreamedText, Vocabulary
from pylon.inference.memory import MemoryPlan, check_weights, memory_limit
from pylon.inference.models.description import describe
from pylon.inference.models.weights import weight_files, weights_sha256
from pylon.inference.schema.guide import SchemaCompiler

# Tokens that are computed at once, of decoded rows and read prompts together.
BATCH_TOKENS = 512
# Sequences besides those of rows: stored prefixes, one that is being read, and one for scoring.
_FURTHER = MOST_PREFIXES + 2
_PROBE_CELLS = 256


class LlamaModel:
    """The model and its context. `slots` is the most rows."""

    def __init__(self, spec: EngineSpec) -> None:
        """Loads a model. Raises ModelError, NoRoomError."""
        if spec.model_file is None:
            raise ModelError(f"the file of the model {spec.model} is not set")
        files = weight_files(spec.model_file)
        size = sum(file.stat().st_size for file in files)
        limit, most = (memory_limit(room(), None, spec.memory) for room in (free_bytes, total_bytes))
        check_weights(size, limit, most, spec.model)
        longest = describe(spec.model_file).max_completion_tokens
        sha256 = weights_sha256(spec.model_file, spec.hash_cache)
        llama_cpp.llama_backend_init()
        self._threads = threads_for(size) or processors()
        self._model = _opened(files[0], spec.model)
        self.vocabulary = Vocabulary(self._model)
        self._chat = Chat(self._model, self.vocabulary)
        self.schemas = SchemaCompiler(self.vocabulary.for_schemas, self.vocabulary.ends)
        sequences = int(llama_cpp.llama_max_parallel_sequences())
        self.slots = min(spec.slots, sequences - _FURTHER)
        self.info = ModelInfo(
            spec.model,
            sha256,
            llama_cpp.llama_ftype_name(llama_cpp.llama_model_ftype(self._model)).decode().removeprefix("all "),
            int(llama_cpp.llama_model_n_ctx_train(self._model)),
            "llama",
            longest,
        )
        self.memory = MemoryPlan(limit, size, *self._state_sizes(spec.model))
        self.cells = CellPlan.within(self.memory, self.slots, self.slots + _FURTHER, self.info.context)
        if not self.cells.total:
            raise NoRoomError(
                f"{spec.model} leaves no memory for prompts in the {limit / 1e9:.1f} GB that may be used here now",
                hint="Choose a smaller model (`pylon models recommend`), or close programs that use memory.",
            )
        self.context = self._new_context(self.cells.total, self.slots + _FURTHER, spec.model)
        self._memory = llama_cpp.llama_get_memory(self.context)
        self._free = list(range(self.slots + _FURTHER - 1, -1, -1))
        self._lengths: dict[int, int] = {}
        self._work = WorkBatch(BATCH_TOKENS)

    def prompt(self, messages: Sequence[Message], customer: str | None = None) -> list[int]:  # noqa: ARG002
        """See `Reader`."""
        return self._chat.tokens(messages)

    def answer_tokens(self, text: str) -> list[int]:
        return self.vocabulary.tokens(text)

    def stop_tokens(self) -> list[int]:
        return self.vocabulary.ends

    def detokenizer(self) -> StreamedText:
        return StreamedText(self.vocabulary)

    # The state of a sequence is its number.

    def new_state(self) -> int:
        sequence = self._free.pop()
        self._lengths[sequence] = 0
        return sequence

    def copy_state(self, state: int) -> int:
        copy = self.new_state()
        llama_cpp.llama_memory_seq_cp(self._memory, state, copy, -1, -1)
        self._lengths[copy] = self._lengths[state]
        return copy

    def drop(self, state: int) -> None:
        llama_cpp.llama_memory_seq_rm(self._memory, state, -1, -1)
        del self._lengths[state]
        self._free.append(state)

    def state_bytes(self, state: int, tokens: int) -> int:  # noqa: ARG002
        """The bytes of the pool that a state of so many tokens takes."""
        return tokens * self.memory.per_token

    def read(self, tokens: list[int], state: int) -> None:
        """Reads tokens into a sequence."""
        for at in range(0, len(tokens), BATCH_TOKENS):
            self._work.clear()
            self.put(self._work, tokens[at : at + BATCH_TOKENS], state)
            self.compute(self._work)

    def logits(self, tokens: list[int], state: int) -> NDArray[np.float32]:
        """Reads at most `ROWS` tokens; returns for each the logits of the token after it."""
        self._work.clear()
        self.put(self._work, tokens, state, outputs=len(tokens))
        return self.compute(self._work)

    def put(self, work: "WorkBatch", tokens: Sequence[int], state: int, outputs: int = 0) -> None:
        """Adds tokens of a sequence to the batch; logits are wanted after the last `outputs` of them."""
        length = self._lengths[state]
        work.add(tokens, state, length, outputs)
        self._lengths[state] = length + len(tokens)

    def compute(self, work: "WorkBatch") -> NDArray[np.float32]:
        """The logits of each wanted output, in order. Valid until the next call."""
        code = llama_cpp.llama_decode(self.context, work.batch)
        if code:
            raise EngineFailedError(f"llama.cpp could not compute a batch (code {code})")
        if not work.outputs:
            return np.empty((0, self.vocabulary.size), np.float32)
        return np.ctypeslib.as_array(
            llama_cpp.llama_get_logits(self.context), shape=(work.outputs, self.vocabulary.size)
        )

    def close(self) -> None:
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self._model)

    def _new_context(self, cells: int, sequences: int, model: str) -> Any:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_seq_max, params.kv_unified = cells, sequences, True
        params.n_batch = params.n_ubatch = BATCH_TOKENS
        params.n_outputs_max = max(sequences, ROWS)
        params.n_outputs_max_per_seq = ROWS
        params.n_threads = params.n_threads_batch = self._threads
        context = llama_cpp.llama_init_from_model(self._model, params)
        if not context:
            raise NoRoomError(
                f"there is no memory for {cells} tokens of prompts and answers besides the model {model}",
                hint="Set inference.memory_gb to what the machine or its GPU can spare.",
            )
        return context

    def _state_sizes(self, model: str) -> tuple[int, int]:
        """Bytes of a token and of a sequence, from small states: some models store more than keys and values."""
        self.context = self._new_context(_PROBE_CELLS, 1, model)
        self._lengths = {0: 0}
        work = WorkBatch(BATCH_TOKENS)
        sizes = []
        try:
            for number in (1, 32):
                work.clear()
                self.put(work, [0] * number, 0)
                self.compute(work)
                sizes.append(int(llama_cpp.llama_state_seq_get_size(self.context, 0)))
        finally:
            llama_cpp.llama_free(self.context)
        per_token = (sizes[1] - sizes[0]) // 32
        return per_token, max(0, sizes[0] - per_token)


class WorkBatch:
    """A `llama_batch` over arrays that are filled anew for each computation."""

    def __init__(self, most: int) -> None:
        self._tokens = np.zeros(most, np.int32)
        self._positions = np.zeros(most, np.int32)
        self._sequences = np.zeros(most, np.int32)
        self._counts = np.ones(most, np.int32)
        self._wanted = np.zeros(most, np.int8)
        # Each token points to an array of sequences: here of one, at its own index.
        places = self._sequences.ctypes.data + self._sequences.itemsize * np.arange(most, dtype=np.uint64)
        self._places = places.astype(np.uint64)
        self.batch = llama_cpp.llama_batch(
            n_tokens=0,
            token=_pointer(self._tokens, ctypes.c_int32),
            pos=_pointer(self._positions, ctypes.c_int32),
            n_seq_id=_pointer(self._counts, ctypes.c_int32),
            seq_id=_pointer(self._places, ctypes.POINTER(ctypes.c_int32)),
            logits=_pointer(self._wanted, ctypes.c_int8),
        )
        self.outputs = 0

    @property
    def size(self) -> int:
        """The number of tokens."""
        return int(self.batch.n_tokens)

    def clear(self) -> None:
        self.batch.n_tokens = self.outputs = 0

    def add(self, tokens: Sequence[int], sequence: int, position: int, outputs: int) -> None:
        begin = self.size
        end = begin + len(tokens)
        self._tokens[begin:end] = tokens
        self._positions[begin:end] = np.arange(position, position + len(tokens))
        self._sequences[begin:end] = sequence
        self._wanted[begin:end] = 0
        if outputs:
            self._wanted[end - outputs : end] = 1
        self.outputs += outputs
        self.batch.n_tokens = end


def _pointer(array: NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))


def _opened(file: Path, model: str) -> Any:
    params = llama_cpp.llama_model_default_params()
    opened = llama_cpp.llama_model_load_from_file(os.fsencode(file), params)
    if not opened:
        raise ModelError(
            f"the file of the model {model} cannot be loaded",
            hint="Download the model again, or choose one that this llama.cpp supports.",
        )
    return opened
