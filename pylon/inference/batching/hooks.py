"""The methods in which engines that batch differ; `BatchedEngine` has the rest."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from pylon.inference.batching.interfaces import BatchRows, Model
from pylon.inference.batching.prefix_cache import PrefixCache
from pylon.inference.batching.prefixes import Prefix
from pylon.inference.batching.request import BatchedRequest
from pylon.inference.engine import ModelInfo


class EngineHooks(ABC):
    """The engine's own part. Its `load` sets `_model`, `_rows` and `_prefixes`."""

    _model: Model[Any]
    _rows: BatchRows
    _prefixes: PrefixCache[Any]

    @abstractmethod
    def load(self) -> ModelInfo:
        """See `Engine`."""

    @abstractmethod
    def _longest(self) -> int:
        """The most tokens, prompt and answer together, of a request that runs alone, by memory."""

    @abstractmethod
    def _longest_prefix(self, first: BatchedRequest) -> int:
        """The most tokens of a further shared prefix now, so that memory has room for `first` beside it."""

    @abstractmethod
    def _admits(self, running: Sequence[BatchedRequest], new: BatchedRequest) -> bool:
        """Whether memory has room for `new` beside the running ones."""

    @abstractmethod
    def _together(self, lengths: Sequence[int], free: int) -> list[int]:
        """Indices of the first prompt and of those to read with it. `lengths` are unread tokens, `free` the slots."""

    @abstractmethod
    def _begin(self, group: Sequence[BatchedRequest], prefix: Prefix[Any] | None) -> None:
        """Adds rows to the batch, which start from this shared prefix."""

    def _over(self, *, now: bool = False) -> bool:  # noqa: ARG002
        """Whether memory in use is over the hard limit; `now` measures it even if that was done just before."""
        return False

    def _make_room(self, tokens: int) -> None:  # noqa: B027
        """Makes room for so many tokens beside the running rows. Raises EngineFailedError."""

    def _give_back(self) -> None:  # noqa: B027
        """Returns freed memory to the system."""

    def _computing(self) -> AbstractContextManager[Any]:
        """A context manager that is entered around every computation."""
        return nullcontext()
