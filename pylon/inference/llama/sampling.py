"""Which token comes next in one row: what its request rules out or makes less likely, then llama.cpp's own draw."""

from collections import Counter
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from pylon.inference.engine import Sampling
from pylon.inference.schema.guide import SchemaGuide

# llama.cpp's seeds are of 32 bits, and this one asks it for one of its own.
_DRAWN_SEED = int(llama_cpp.LLAMA_DEFAULT_SEED)


class Picker:
    """For one answer."""

    def __init__(self, sampling: Sampling, guide: SchemaGuide | None) -> None:
        self._penalty = sampling.frequency_penalty
        self._guide = guide
        self._said: Counter[int] = Counter()
        self._new: list[int] = []
        self._chain = None if sampling.greedy else _chain(sampling)

    def pick(self, logits: NDArray[np.float32], context: Any, output: int) -> int:
        """`logits` is this row's view of `context`'s own, the `output`th of them; negative counts from behind."""
        if self._penalty and self._said:
            logits[list(self._said)] -= self._penalty * np.array(list(self._said.values()), np.float32)
        # Last: no penalty can bring back what the schema rules out.
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
