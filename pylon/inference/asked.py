"""A request in a batching engine's hands: its prompt in tokens, and its answer as it grows."""

from dataclasses import dataclass
from typing import Any

from pylon.inference.answer import Answer
from pylon.inference.engine import GenerationRequest, Sampling
from pylon.inference.prefixes import Prefix
from pylon.inference.reuse import AnswerKey
from pylon.inference.schema import SchemaGuide


@dataclass(slots=True, eq=False)
class Asked:
    """`key` tells equal greedy requests, `guide` follows its schema, `sheds` counts how often memory put it back.

    `head` is the shared head that it starts from.
    """

    request: GenerationRequest
    tokens: list[int]
    answer: Answer
    key: AnswerKey | None
    guide: SchemaGuide | None
    uid: int = -1
    started: float = 0.0
    sheds: int = 0
    head: Prefix[Any] | None = None

    @property
    def id(self) -> str:
        return self.request.id

    @property
    def length(self) -> int:
        """Tokens that its row may grow to."""
        return len(self.tokens) + self.request.sampling.max_tokens

    @property
    def known(self) -> int:
        """Tokens that need no reading."""
        return len(self.head.tokens) if self.head is not None else 0

    @property
    def sampling(self) -> Sampling:
        return self.request.sampling

    @property
    def alone(self) -> bool:
        """Greedy decoding draws nothing, so there a seed changes nothing."""
        return self.sampling.seed is not None and self.sampling.temperature > 0
