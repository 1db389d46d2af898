"""Chooses the next token of a row: applies the request's schema and penalties, then llama.cpp's sampler."""

from collections import Counter
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from pylon.inference.engine import Sampling
from pylon.inference.schema.guide import SchemaGuide

# The seed by which llama.cpp chooses one of its own; seeds have 32 bits.
_DRAWN_SEED = int(llama_cpp.LLAMA_DEFAULT_SEED)


class Picker:
    """Chooses the tokens of one answer."""

    def __init__(self, sampling: Sampling, guide: SchemaGuide | None) -> None:
        self._penalty = sampling.frequency_penalty
        self._guide = guide
        self._said: Counter[int] = Counter()
        self._new: list[int] = []
        self._chain = None if sampling.greedy else _chain(sampling)

    def pick(self, logits: NDArray[np.float32], context: Any, output: int) -> int:
        """The next token. `logits` is a view into those of `context`, at index `output` (negative: from the end)."""
        if self._penalty and self._said:
            logits[list(self._said)] -= self._penalty * np.array(list(self._said.values()), np.float32)
        # Last, so that no penalty brings back what the schema rules out.
        if self._guide is not None and (allowed := self._guide.allowed(self._new, logits.size)) is not None:
            logits[~allowed] = -np.inf
        if self._chain is None:
            token = int(logits.argmax())
        else:
            token = int(llama_cpp.llama_sampler_sample(self._chain, context, output))
        self._new = [token]
        self._said[token] += 1
        return token

    def close(self) -> None:
        if self._chain is not None:
            llama_cpp.llama_sampler_free(self._chain)
            self._chain = None


def _chain(sampling: Sampling) -> Any:
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    seed = _DRAWN_SEED if sampling.seed is None else sampling.seed % _DRAWN_SEED
    steps = [
        *([llama_cpp.llama_sampler_init_top_k(min(sampling.top_k, 2**31 - 1))] if sampling.top_k > 0 else []),
        *([llama_cpp.llama_sampler_init_top_p(sampling.top_p, 1)] if sampling.top_p < 1 else []),
        llama_cpp.llama_sampler_init_temp(sampling.temperature),
        llama_cpp.llama_sampler_init_dist(seed),
    ]
    for step in steps:
        llama_cpp.llama_sampler_chain_add(chain, step)
    return chain
