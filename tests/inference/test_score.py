"""Answers of others, read by a model of this machine."""

from pathlib import Path

import pytest

from pylon.clock import SystemClock
from pylon.errors import EngineError
from pylon.inference.engine import EngineSpec, GenerationRequest, Message, Sampling, ScoreRequest
from pylon.inference.models import needle
from pylon.inference.models.weights import model_directory
from pylon.inference.service import InferenceService
from pylon.jobs.result import Finish
from pylon.swarm.checks.verification import Score, Verdict, judge

PROMPT = needle.prompt(
    needle.QUESTIONS[0].format(key="amber-falcon"),
    "It rained for days. The special magic number for amber-falcon is 7391824. Nobody had seen the harbour so empty.",
)


async def served(spec: EngineSpec) -> InferenceService:
    service = InferenceService(spec, SystemClock())
    await service.start()
    return service


async def test_a_real_model_knows_its_own_answer_and_no_other(tmp_path: Path) -> None:
    spec = EngineSpec("mlx", "needle-1", model_dir=model_directory("needle-1", tmp_path), slots=2)
    service = await served(spec)
    messages = (Message("user", PROMPT),)
    try:
        own = await service.generate(GenerationRequest("1", messages, Sampling(12), "needle-1"))

        async def verdict(text: str) -> Verdict:
            ranks = await service.score(ScoreRequest("", messages, text))
            return judge(Score(ranks[:-1], ranks[-1]), greedy=True, finish=Finish.STOP)

        assert own.finish == "stop" and own.text == "7391824"
        assert await verdict(own.text) is Verdict.PASSED
        assert await verdict(own.text + " " + own.text) is not Verdict.PASSED
        assert await verdict("I am a quite different model, and say so at length") is Verdict.FAILED
        assert await verdict(own.text[: len(own.text) // 2]) is not Verdict.PASSED
    finally:
        await service.close()


async def test_the_stand_in_tells_its_own_words_by_rule_and_a_child_that_is_gone_tells_nothing() -> None:
    service = await served(EngineSpec("instant", "stand-in-instant"))
    messages = (Message("user", "a question"),)
    own = await service.generate(GenerationRequest("1", messages, Sampling(50), "stand-in-instant"))
    assert set(await service.score(ScoreRequest("", messages, own.text))) == {0}
    assert max(await service.score(ScoreRequest("", messages, "something else"))) > 0
    await service.close()
    with pytest.raises(EngineError):
        await service.score(ScoreRequest("", messages, own.text))
