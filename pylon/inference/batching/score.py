"""Scores an answer with a model: the rank of each of its tokens among all tokens that could stand there.

By teacher forcing: whatever the model would have said, it is shown the answer's own tokens. A greedy answer of the
same weights has rank 0 throughout, except where rounding decides.
"""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# Positions whose logits are held at once: those of one can take a megabyte.
ROWS = 32
_PROMPT_STEP = 512


class Judge[State](Protocol):
    """A model whose logits can be read."""

    def new_state(self) -> State: ...

    def read(self, tokens: list[int], state: State) -> None: ...

    def drop(self, state: State) -> None: ...

    def logits(self, tokens: list[int], state: State) -> NDArray[np.float32]:
        """Reads at most `ROWS` tokens; returns for each the logits of the token after it."""

    def stop_tokens(self) -> Iterable[int]: ...


def ranks[State](model: Judge[State], prompt: list[int], answer: list[int]) -> list[int]:
    """The rank of each token of the answer, and that of the best stop token after it."""
    state = model.new_state()
    try:
        for at in range(0, len(prompt) - 1, _PROMPT_STEP):
            model.read(prompt[at : min(at + _PROMPT_STEP, len(prompt) - 1)], state)
        # The logits after a token rank the next one.
        read = [prompt[-1], *answer]
        found: list[int] = []
        for at in range(0, len(read), ROWS):
            rows = model.logits(read[at : at + ROWS], state)
            found += [_rank(row, token) for row, token in zip(rows, answer[at : at + ROWS], strict=False)]
        return [*found, min((_rank(rows[-1], token) for token in model.stop_tokens()), default=0)]
    finally:
        model.drop(state)


def _rank(row: NDArray[np.float32], token: int) -> int:
    return int((row > row[token]).sum())
