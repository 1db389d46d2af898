"""A model that nobody asks for long enough leaves memory, and is there again for whoever asks."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from pylon.errors import EngineError
from pylon.inference.child.process import COMMAND
from pylon.inference.child.supervisor import ChildLimits
from pylon.inference.engine import EngineSpec, Message, ScoreRequest
from pylon.inference.instant import MODEL_ID
from pylon.inference.service import InferenceService
from tests.inference.children import MISBEHAVING
from tests.manual_clock import ManualClock
from tests.waiting import until

INSTANT = EngineSpec("instant", MODEL_ID, slots=4)
UNLOAD_S = 100.0
# A child beats twice a second; whether it is idle is looked at ten times.
LIMITS = ChildLimits(stall_s=2, loading_s=60, close_s=0.5, unload_s=UNLOAD_S)
LOOKS_S = 0.6


def score(answer: str) -> ScoreRequest:
    return ScoreRequest("", (Message("user", "a question"),), answer)


class Unloading:
    def __init__(self, service: InferenceService, clock: ManualClock) -> None:
        self.service, self.clock = service, clock

    async def stays_after(self, seconds: float) -> bool:
        """Whether the model is still there when nobody has asked for so long."""
        self.clock.advance(seconds)
        await asyncio.sleep(LOOKS_S)
        return self.service.state == "ready"

    async def leaves(self) -> None:
        self.clock.advance(UNLOAD_S)
        await until(lambda: self.service.state == "unloaded" and self.service.status().pid is None)


@pytest.fixture
async def unloading(request: pytest.FixtureRequest) -> AsyncIterator[Unloading]:
    spec, command = getattr(request, "param", (INSTANT, COMMAND))
    clock = ManualClock()
    service = InferenceService(spec, clock, limits=LIMITS, command=command)
    await service.start()
    yield Unloading(service, clock)
    await service.close()


async def test_a_model_that_nobody_asks_leaves_memory_and_comes_back_for_the_next_request(unloading, ask) -> None:
    service = unloading.service
    await service.generate(ask("first", model=MODEL_ID))
    await unloading.leaves()
    assert service.status().model is not None, "it is still announced"
    answers = await asyncio.gather(*(service.generate(ask(f"{n}", model=MODEL_ID)) for n in range(3)))
    assert len(answers) == 3
    assert service.status().restarts == 0


async def test_who_has_answers_read_uses_the_model_and_gets_it_back(unloading, ask) -> None:
    service = unloading.service
    own = await service.generate(ask("a question", model=MODEL_ID))
    for _ in range(2):
        assert await unloading.stays_after(UNLOAD_S - 1)
        assert set(await service.score(score(own.text))) == {0}
    await unloading.leaves()
    ranks = await asyncio.gather(*(service.score(score(own.text)) for _ in range(3)))
    assert {max(each) for each in ranks} == {0}
    assert service.status().restarts == 0


@pytest.mark.parametrize(
    "unloading", [(EngineSpec("misbehaving", "misbehaving"), MISBEHAVING)], indirect=True, ids=["misbehaving"]
)
async def test_it_does_not_leave_while_an_answer_is_read(unloading, ask) -> None:
    await unloading.service.generate(ask("first", model="misbehaving"))
    reading = asyncio.create_task(unloading.service.score(score("hang")))
    assert await unloading.stays_after(2 * UNLOAD_S)
    reading.cancel()


async def test_an_answer_is_read_once_the_model_is_there_and_not_by_one_that_is_stopped(unloading) -> None:
    assert unloading.service.state == "loading"
    assert max(await unloading.service.score(score("quite another answer"))) > 0
    await unloading.leaves()
    late = asyncio.create_task(unloading.service.score(score("quite another answer")))
    await asyncio.sleep(0)
    await unloading.service.close()
    with pytest.raises(EngineError, match="stopped"):
        await late
