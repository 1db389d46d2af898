"""The rows of the llama.cpp engine: prompts that are read and answers that are decoded, in one batch each step."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pylon.inference.batching.interfaces import Token
from pylon.inference.llama.model import BATCH_TOKENS, LlamaModel, WorkBatch
from pylon.inference.llama.sampling import Picker


@dataclass(slots=True, eq=False)
class LlamaRow:
    """One row. `left` are tokens not yet in sequence `state`; `remaining` is how many its answer may still have."""

    uid: int
    state: int
    left: list[int]
    remaining: int
    picker: Picker


class LlamaRows:
    """The rows, each a sequence of the model."""

    def __init__(self, model: LlamaModel) -> None:
        self._model = model
        self._ends = frozenset(model.stop_tokens())
        self._rows: dict[int, LlamaRow] = {}
        self._work = WorkBatch(BATCH_TOKENS)

    @property
    def reading(self) -> bool:
        """Whether the prompts to read fill a batch."""
        return sum(len(row.left) for row in self._rows.values()) >= BATCH_TOKENS

    def start(self, row: LlamaRow) -> None:
        self._rows[row.uid] = row

    def remove(self, uid: int) -> None:
        row = self._rows.pop(uid)
        row.picker.close()
        self._model.drop(row.state)

    def step(self) -> list[Token]:
        """Decodes the next token of each row, and reads as many prompts as fit beside them, one of them in part."""
        self._work.clear()
        ready: list[LlamaRow] = []
        reading = False
        # Decoded rows have one token left each, and do not wait for prompts.
        for row in sorted(self._rows.values(), key=lambda row: len(row.left) > 1):
            room = BATCH_TOKENS - self._work.size
            # llama.cpp computes sequences of unequal length one after the other: part of one more prompt costs extra.
            if not room or (reading and len(row.left) > room):
                continue
            reading = reading or len(row.left) > 1
            part = row.left[:room]
            row.left = row.left[len(part) :]
            self._model.put(self._work, part, row.state, outputs=0 if row.left else 1)
            if not row.left:
                ready.append(row)
        if not self._work.size:
            return []
        logits = self._model.compute(self._work)
        return [self._next(row, logits, place) for place, row in enumerate(ready)]

    def _next(self, row: LlamaRow, logits: NDArray[np.float32], place: int) -> Token:
        token = row.picker.pick(logits[place], self._model.context, place - len(logits))
        row.remaining -= 1
        finish = "stop" if token in self._ends else None if row.remaining else "length"
        row.left = [token]
        if finish is not None:
            self.remove(row.uid)
        return Token(row.uid, token, finish)
