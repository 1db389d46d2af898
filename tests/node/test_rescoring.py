"""The customer's second opinion from the model of this machine."""

from pylon.clock import SystemClock
from pylon.inference.child.supervisor import ChildLimits
from pylon.inference.engine import EngineSpec, GenerationRequest, Message, Sampling
from pylon.inference.instant import MODEL_ID
from pylon.inference.service import InferenceService
from pylon.node.rescoring import ModelRescorer
from pylon.swarm.job import JobSpec
from tests.waiting import until


async def test_a_model_that_left_memory_is_held_and_comes_back_to_read_an_answer() -> None:
    limits = ChildLimits(stall_s=2, unload_s=0.2)
    inference = InferenceService(EngineSpec("instant", MODEL_ID), SystemClock(), limits=limits)
    rescorer = ModelRescorer(inference)
    assert not rescorer.holds()
    await inference.start()
    asked = GenerationRequest("1", (Message("user", "a question"),), Sampling(50), MODEL_ID)
    own = await inference.generate(asked)
    await until(lambda: inference.state == "unloaded")
    assert inference.model is not None
    assert rescorer.holds() == {inference.model.sha256}
    score = await rescorer.score(JobSpec("a question"), own.text)
    assert score is not None and set(score.ranks) == {0} and score.end_rank == 0
    await inference.close()
    assert not rescorer.holds()
    assert await rescorer.score(JobSpec("a question"), own.text) is None
