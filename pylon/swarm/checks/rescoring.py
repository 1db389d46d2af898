"""Re-scoring: has a model that this customer holds itself score a provider's answer."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from pylon import log
from pylon.swarm.checks.verification import Score, Verdict, judge
from pylon.swarm.job import Answer, JobSpec
from pylon.tasks import Tasks

logger = log.get("swarm")

# Scoring takes longer than this only when the machine is busy, and then another provider's opinion is as good.
_SCORE_S = 30.0


class Rescorer(Protocol):
    """A model that scores answers: `pylon.node.rescoring` asks the inference child; tests bring their own rule."""

    def holds(self) -> frozenset[str]:
        """The weights hashes of models that can be asked now."""

    async def score(self, asked: JobSpec, text: str) -> Score | None:
        """The ranks of an answer's tokens, or None when they cannot be had."""


class Rescoring:
    """Scores answers, if there is a model to ask. `judged` is called with the slot of each, and the verdict."""

    def __init__(self, rescorer: Rescorer | None, judged: Callable[[int, Verdict], None]) -> None:
        self._rescorer = rescorer
        self._judged = judged
        self._errands = Tasks("a part of the customer stopped")

    def holds(self) -> frozenset[str]:
        """The weights hashes of models that can be asked now."""
        return frozenset() if self._rescorer is None else self._rescorer.holds()

    def begin(self, slot: int, spec: JobSpec, answer: Answer) -> None:
        """Scores an answer in the background."""
        self._errands.begin(self._judge(slot, spec, answer), "rescoring")

    async def close(self) -> None:
        """Cancels what is being scored."""
        await self._errands.close()

    async def _judge(self, slot: int, spec: JobSpec, answer: Answer) -> None:
        await asyncio.sleep(0)
        found = await self._score(spec, answer.text)
        if found is None:
            self._judged(slot, Verdict.UNCLEAR)
        else:
            self._judged(slot, judge(found, greedy=not spec.temperature, finish=answer.finish))

    async def _score(self, spec: JobSpec, text: str) -> Score | None:
        if self._rescorer is None:
            return None
        try:
            async with asyncio.timeout(_SCORE_S):
                return await self._rescorer.score(spec, text)
        except TimeoutError:
            return None
        except Exception as error:
            # A fault of ours: another provider is asked, as if there were no model here.
            logger.failed("an answer could not be scored", error)
            return None
