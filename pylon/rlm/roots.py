"""Root models that run on Pylon itself: a model on this machine, or one that providers of the swarm have."""

import itertools
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

from pylon.errors import EngineError, ModelError, UnreachableError
from pylon.inference import engine
from pylon.inference.service import InferenceService
from pylon.rlm.root import Charged, Message, Reply, RootError, meaning, unpaid
from pylon.rlm.sublm import Job, SubAnswer, SubLM

# A provider that was given up may still charge while another is asked: a turn's price is set aside this many times.
_TRIES = 2


class EngineRoot:
    """A model in an inference child of this process. Takes over a started service, which `close` ends."""

    most_msat = 0

    def __init__(
        self,
        service: InferenceService,
        model: str,
        context_tokens: int,
        max_tokens: int = 2_048,
        temperature: float = 0.0,
        seed: int | None = None,
    ) -> None:
        self.name = model
        self.context_tokens = context_tokens
        self.max_tokens = max_tokens
        self._sampling = engine.Sampling(max_tokens, temperature, seed=seed)
        self._service = service
        self._numbers = itertools.count(1)

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        loop: str = "",  # noqa: ARG002 - the seam's
        charged: Charged = unpaid,  # noqa: ARG002 - the seam's
    ) -> Reply:
        """See `Root`."""
        chat = tuple(engine.Message(message.role, message.content) for message in messages)
        request = engine.GenerationRequest(f"root-{next(self._numbers)}", chat, self._sampling, self.name)
        try:
            made = await self._service.generate(request)
        except EngineError as error:
            lasting = isinstance(error, ModelError)
            raise RootError(str(error), hint=error.hint, lasting=lasting, means=meaning(error)) from error
        return Reply(made.text, made.prompt_tokens, made.completion_tokens, self.name, finish=made.finish)

    async def close(self) -> None:
        """See `Root`."""
        await self._service.close()


class SwarmRoot:
    """A model in the swarm: each turn is a separate job with the whole chat, for any provider that has the model."""

    def __init__(
        self,
        swarm: SubLM,
        model: str | None,
        context_tokens: int,
        max_tokens: int = 2_048,
        temperature: float = 0.0,
        *,
        timeout_s: float = 300.0,
        seed: int | None = None,
    ) -> None:
        self.name = f"swarm:{model or 'any'}"
        self.context_tokens = context_tokens
        self.max_tokens = max_tokens
        self._swarm = swarm
        self._job = Job("", (), model, max_tokens, temperature, timeout_s, seed=seed)
        # A chat that fills the window costs most.
        full = Message("user", "x" * (context_tokens * 4))
        self._bid_msat = swarm.most_msat(self._with((full,)))
        self.most_msat = _TRIES * self._bid_msat

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        loop: str = "",  # noqa: ARG002 - the seam's
        charged: Charged = unpaid,
    ) -> Reply:
        """See `Root`."""
        job = self._with(tuple(messages), self._bid_msat)
        reply: Reply | None = None
        error = RootError("the swarm gave no outcome for the root model's turn", lasting=False)
        async with aclosing(self._swarm.ask([job], budget_msat=self.most_msat)) as outcomes:  # type: ignore[type-var]
            async for came in outcomes:
                if not isinstance(came, tuple):
                    charged(came)
                elif isinstance(outcome := came[1], SubAnswer):
                    reply = Reply(
                        outcome.text, outcome.prompt_tokens, outcome.completion_tokens, outcome.model,
                        outcome.msat, outcome.finish,
                    )  # fmt: skip
                else:
                    error = RootError(outcome.message, lasting=False, means=UnreachableError)
        if reply is None:
            raise error
        return reply

    def _with(self, messages: tuple[Message, ...], most_msat: int = 0) -> Job:
        return replace(self._job, messages=messages, most_msat=most_msat)

    async def close(self) -> None:
        """See `Root`."""
