"""What commands and programs make of a node's word that providers are loading their model."""

from contextlib import aclosing

import pytest

from pylon.cli.map_report import MapProgress
from pylon.cli.waiting import map_result
from pylon.node.calls.protocol import Event, Result
from pylon.node.swarm_client import _Asked
from pylon.swarm.job import JobSpec

PROGRESS = {"done": 0, "failed": 0, "paid_msat": 0, "in_flight": 0, "providers": 3, "loading": 3}
WAITS = "providers are loading their model; waiting for one of them …"


class Node:
    """Its providers load before the run begins, and after that too; then the run has this result."""

    async def call(self, method, params):
        for loading in (2, 1, 2, 3):
            yield Event({"loading": loading})
        yield Event(PROGRESS)
        yield Result({"jobs": 1})


def said(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if WAITS in line]


@pytest.mark.parametrize("quiet", [False, True])
async def test_one_question_tells_a_person_that_it_waits_each_time_that_more_are_loading(capsys, quiet):
    assert await map_result(Node(), {}, quiet=quiet) == {"jobs": 1}
    assert said(capsys) == ([] if quiet else [f"2 {WAITS}", f"3 {WAITS}"])


async def test_a_map_is_no_further_before_its_run_begins():
    progress = MapProgress(4, "play sats", quiet=True)
    so_far = []

    def hear(event):
        progress.update(event)
        so_far.append(progress.so_far)

    await map_result(Node(), {}, quiet=True, hear=hear)
    assert so_far == ["", "", "", "", "0 of 4 answered, 0 play sats spent"]


async def test_a_program_is_told_of_progress_once_the_run_has_begun():
    told = []
    asked = _Asked([JobSpec("a")], told.append, None)
    async with aclosing(Node().call("map", {})) as answers:
        async for answer in answers:
            if isinstance(answer, Event):
                asked.hear(answer)
    assert [one.total for one in told] == [1]
