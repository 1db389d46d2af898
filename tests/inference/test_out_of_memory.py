"""The real engine on a machine that has no more memory for it: the system refuses what it asks for."""

import asyncio
import sys
from pathlib import Path

import pytest

from pylon.errors import EngineFailedError
from pylon.inference.child.supervisor import ChildLimits
from pylon.inference.engine import EngineSpec
from pylon.inference.models.weights import PACKAGED

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to RLIMIT_AS"),
]
STARVED = (sys.executable, str(Path(__file__).parent / "starved.py"))
LIMITS = ChildLimits(backoff_s=0.01)
# Enough for two more threads and a short prompt, or for nothing new at all; sixteen long ones take more.
ROOMS = {"little room": 29_000_000, "no room": 1_000_000}
# MLX looks at what it gets from the system only sometimes.
ENDS = {"ran out of memory", "was killed by SIGSEGV", "was killed by SIGABRT"}
# Some 340 tokens: four times as long as what sixteen of them run out of memory with, and no longer, as the next child
# answers all of them.
LONG = "What is the answer to all of this? " * 30


def starved(**options: object) -> EngineSpec:
    return EngineSpec("mlx", "needle-1", PACKAGED / "needle-1", slots=32, options=options)


@pytest.mark.parametrize("room", ROOMS.values(), ids=ROOMS)
async def test_what_a_child_had_in_hand_when_its_memory_ran_out_is_answered_by_the_next(
    serve, ask, tmp_path: Path, room: int
) -> None:
    service = await serve(starved(room=room, marks=str(tmp_path)), limits=LIMITS, command=STARVED)
    asked = [ask(f"{number} {LONG}", customer=str(number)) for number in range(16)]
    answers = await asyncio.gather(*map(service.generate, asked))
    assert len(answers) == 16
    status = service.status()
    assert (status.state, status.active, status.restarts) == ("ready", 0, 1)
    assert status.reason in ENDS


async def test_requests_for_which_memory_runs_out_each_time_fail_after_two_more_tries_and_the_node_serves_on(
    serve, ask
) -> None:
    service = await serve(starved(room=ROOMS["little room"]), limits=LIMITS, command=STARVED)
    asked = [ask(f"{number} {LONG}", customer=str(number)) for number in range(16)]
    answers = await asyncio.gather(*map(service.generate, asked), return_exceptions=True)
    assert all(isinstance(answer, EngineFailedError) for answer in answers)
    assert {str(answer) for answer in answers} <= {
        f"the model's process {end} while it worked on this request, 3 times" for end in ENDS
    }
    assert all("inference.memory_gb" in answer.hint for answer in answers)
    assert (await service.generate(ask("What is 1 and 2?", max_tokens=4))).completion_tokens
    status = service.status()
    assert (status.state, status.active, status.restarts) == ("ready", 0, 3)
    assert status.reason in ENDS
