"""Checks answers of other providers with the model of this machine."""

from dataclasses import dataclass

from pylon.errors import EngineError
from pylon.inference.engine import Message, ScoreRequest
from pylon.inference.service import InferenceService
from pylon.swarm.checks.verification import Score
from pylon.swarm.job import JobSpec


@dataclass(frozen=True, slots=True)
class ModelRescorer:
    """A `Rescorer` that uses the inference child."""

    inference: InferenceService

    def holds(self) -> frozenset[str]:
        """See `Rescorer`."""
        model = self.inference.model
        # An unloaded model is loaded again when it is needed.
        if model is None or self.inference.state not in ("ready", "unloaded"):
            return frozenset()
        return frozenset({model.sha256})

    async def score(self, asked: JobSpec, text: str) -> Score | None:
        """See `Rescorer`."""
        chat = asked.messages or (("user", asked.prompt),)
        system = () if asked.system is None else (("system", asked.system),)
        messages = tuple(Message(role, content) for role, content in (*system, *chat))
        try:
            ranks = await self.inference.score(ScoreRequest("", messages, text))
        except EngineError:
            return None
        return Score(ranks[:-1], ranks[-1])
