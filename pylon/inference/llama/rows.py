"""The rows of the llama.cpp engine: prompts being read and answers being decoded, all in one batch a step."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pylon.inference.batching.driven import Token
from pylon.inference.llama.model import BATCH_TOKENS, LlamaModel, WorkBatch
from pylon.inference.llama.sampling import Picker


@dataclass(slots=True, eq=False)
class LlamaRow:
    """`left` comes behind what sequence `state` holds; `remaining` is how many tokens it may still have."""

    uid: int
    state: int
    left: list[int]
    remaining: int
    picker: Picker


class LlamaRows:
    def __init__(self, model: LlamaModel) -> None:
        self._model = model
        self._ends = frozenset(model.stop_tokens())
        self._rows: dict[int, LlamaRow] = {}
        self._work = WorkBatch(BATCH_TOKENS)

    @property
    def reading(self) -> bool:
        """Whether there is a batch's worth of prompts to read."""
        return sum(len(row.left) for row in self._rows.values()) >= BATCH_TOKENS

    def start(self, row: LlamaRow) -> None:
        self._rows[row.uid] = row

    def remove(self, uid: int) -> None:
        row = self._rows.pop(uid)
        row.picker.close()
        self._model.drop(row.state)

    def step(self) -> list[Token]:
        """The next token of each row that is read; beside them, as much of one prompt as fits, and whole others."""
        self._work.clear()
        ready: list[LlamaRow] = []
        reading = False
        # Rows that are decoded have one token left each, and none of them waits for others' prompts.
        for row in sorted(self._rows.values(), key=lambda row: len(row.left) > 1):
            room = BATCH_TOKENS - self._work.size
            # llama.cpp computes sequences of unlike length one after the other: part of a further prompt costs extra.
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
