"""Root LMs that are Pylon's own: a model on this machine, or whichever provider of the swarm has the model."""

import itertools
from collections.abc import Sequence
from contextlib import aclosing

from pylon.errors import EngineError
from pylon.inference import engine
from pylon.inference.service import InferenceService
from pylon.rlm.root import Message, Reply, RootError
from pylon.rlm.sublm import Beside, Job, SubAnswer, SubLM

# Whoever was given up may charge all the same, and then somebody else is asked: so often a turn's price is set aside.
_TRIES = 2


class EngineRoot:
    """A model in an inference child of this process. The service is the caller's, and started; `close` ends it."""

    most_msat = 0

    def __init__(
        self,
        service: InferenceService,
        model: str,
        context_tokens: int,
        max_tokens: int = 2_048,
        temperature: float = 0.0,
    ) -> None:
        self.name = model
        self.context_tokens = context_tokens
        self.max_tokens = max_tokens
        self._temperature = temperature
        self._service = service
        self._numbers = itertools.count(1)

    async def reply(self, messages: Sequence[Message], *, loop: str = "") -> Reply:  # noqa: ARG002 - the seam's
        """See `Root`."""
        chat = tuple(engine.Message(message.role, message.content) for message in messages)
        sampling = engine.Sampling(self.max_tokens, self._temperature)
        request = engine.GenerationRequest(f"root-{next(self._numbers)}", chat, sampling, self.name)
        try:
            made = await self._service.generate(request)
        except EngineError as error:
            raise RootError(str(error), hint=error.hint) from error
        return Reply(made.text, made.prompt_tokens, made.completion_tokens, self.name)

    async def close(self) -> None:
        """See `Root`."""
        await self._service.close()


class SwarmRoot:
    """A provider of the swarm: each turn is a job of its own that carries the whole chat."""

    def __init__(
        self,
        swarm: SubLM,
        model: str | None,
        context_tokens: int,
        max_tokens: int = 2_048,
        temperature: float = 0.0,
        *,
        timeout_s: float = 300.0,
    ) -> None:
        self.name = f"swarm:{model or 'any'}"
        self.context_tokens = context_tokens
        self.max_tokens = max_tokens
        self._swarm = swarm
        self._job = Job("", (), model, max_tokens, temperature, timeout_s)
        # A chat that fills the window costs the most.
        full = Message("user", "x" * (context_tokens * 4))
        self._bid_msat = swarm.most_msat(self._with((full,)))
        self.most_msat = _TRIES * self._bid_msat

    async def reply(self, messages: Sequence[Message], *, loop: str = "") -> Reply:  # noqa: ARG002 - the seam's
        """See `Root`."""
        beside = 0
        job = self._with(tuple(messages), self._bid_msat)
        error = RootError("the swarm gave no outcome for the root model's turn")
        async with aclosing(self._swarm.ask([job], budget_msat=self.most_msat)) as outcomes:  # type: ignore[type-var]
            async for came in outcomes:
                if isinstance(came, Beside):
                    beside += came.msat
                elif isinstance(outcome := came[1], SubAnswer):
                    return Reply(
                        outcome.text, outcome.prompt_tokens, outcome.completion_tokens, outcome.model,
                        outcome.msat + beside,
                    )  # fmt: skip
                else:
                    error = RootError(outcome.message)
        error.msat = beside
        raise error

    def _with(self, messages: tuple[Message, ...], most_msat: int = 0) -> Job:
        job = self._job
        return Job("", messages, job.model, job.max_tokens, job.temperature, job.timeout_s, most_msat)

    async def close(self) -> None:
        """See `Root`."""
