"""What an engine that batches drives: its loaded model, and the rows that the model works on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pylon.inference.batching.answer import Detokenizer
from pylon.inference.batching.heads import Reader
from pylon.inference.batching.score import Judge
from pylon.inference.engine import ModelInfo
from pylon.inference.schema.guide import SchemaCompiler


@dataclass(frozen=True, slots=True)
class Token:
    """One row's next token. `finish` is `stop` when it is a stop token, `length` when it is the last allowed."""

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
        """Those that the model would write this with."""

    def detokenizer(self) -> Detokenizer: ...


class DrivenRows(Protocol):
    """The rows that a model works on, whether their prompts are being read or their answers decoded."""

    @property
    def reading(self) -> bool:
        """Whether it has enough to read: until it has not, nothing is started."""

    def step(self) -> Sequence[Token]:
        """Computes a little; the next token of each row that has one. A row that has its last is gone then."""

    def remove(self, uid: int) -> None:
        """Lets a row go at once."""
