"""What each engine that batches says of its own model and machine; `BatchedEngine` knows the rest."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from pylon.inference.batching.asked import Asked
from pylon.inference.batching.driven import DrivenRows, Model
from pylon.inference.batching.heads import Head, Heads
from pylon.inference.engine import ModelInfo


class EngineHooks(ABC):
    """`load` of each engine sets `_model`, `_rows` and `_heads`."""

    _model: Model[Any]
    _rows: DrivenRows
    _heads: Heads[Any]

    @abstractmethod
    def load(self) -> ModelInfo:
        """See `Engine`."""

    @abstractmethod
    def _longest(self) -> int:
        """How many tokens, prompt and answer together, memory holds of one request that is alone."""

    @abstractmethod
    def _longest_head(self, first: Asked) -> int:
        """How many tokens a further head may have now: one beside which `first` would not start is of no use."""

    @abstractmethod
    def _admits(self, running: Sequence[Asked], new: Asked) -> bool:
        """Whether memory lets `new` start beside these."""

    @abstractmethod
    def _together(self, lengths: Sequence[int], free: int) -> list[int]:
        """Places of the first and of those that are read with it, of prompts with so many unread tokens each."""

    @abstractmethod
    def _begin(self, group: Sequence[Asked], head: Head[Any] | None) -> None:
        """Puts rows into the batch; they share this head."""

    def _over(self, *, now: bool = False) -> bool:  # noqa: ARG002
        """Whether memory in use passes the hard limit."""
        return False

    def _make_room(self, tokens: int) -> None:  # noqa: B027
        """For so many tokens beside what runs. Raises EngineFailedError."""

    def _give_back(self) -> None:  # noqa: B027
        """Returns freed memory to the system."""

    def _computing(self) -> AbstractContextManager[Any]:
        """Entered around whatever computes."""
        return nullcontext()
