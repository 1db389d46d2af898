"""An answer in the eyes of a model that this customer holds itself."""

from typing import Protocol

from pylon.swarm.job import JobSpec
from pylon.swarm.verification import Score

# A second opinion takes longer than this only when the machine is busy, and then another provider's is as good.
SCORE_S = 30.0


class Rescorer(Protocol):
    """A model to ask. `pylon.node.rescoring` asks the inference child; tests bring a rule that says so."""

    def holds(self) -> frozenset[str]:
        """The weights hashes of models that can be asked now."""

    async def score(self, asked: JobSpec, text: str) -> Score | None:
        """The ranks of an answer's tokens, or None when they cannot be had."""
