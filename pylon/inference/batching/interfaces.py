"""The interfaces that an engine that batches uses: its loaded model, and the rows of its batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pylon.inference.batching.answer import Detokenizer
from pylon.inference.batching.prefix_cache import Reader
from pylon.inference.batching.score import Judge
from pylon.inference.engine import ModelInfo
from pylon.inference.schema.guide import SchemaCompiler


@dataclass(frozen=True, slots=True)
class Token:
    """The next token of a row. `finish` is `stop` for a stop token, `length` for the last one allowed, else None."""

    uid: int
    token: int
    finish: str | None


class Model[State](Reader[State], Judge[State], Protocol):
    """A loaded model."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def schemas(self) -> SchemaCompiler: ...

    def answer_tokens(self, text: str) -> list[int]:
        """The tokens with which the model would write this text."""

    def detokenizer(self) -> Detokenizer: ...


class BatchRows(Protocol):
    """The rows of an engine, whose prompts are being read or whose answers are being decoded."""

    @property
    def reading(self) -> bool:
        """Whether enough prompts are being read, so that no further row is started now."""

    def step(self) -> Sequence[Token]:
        """Computes a little; returns the next token of each row that has one. A row that ends is removed."""

    def remove(self, uid: int) -> None:
        """Removes a row at once."""
