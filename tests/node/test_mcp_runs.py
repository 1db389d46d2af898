"""The runs of `pylon mcp`, without its client and without a node."""

import asyncio
from pathlib import Path

import pytest

from pylon import config as settings
from pylon.node.home import Home
from pylon.node.mcp.runs import AT_ONCE, McpRun, McpRuns
from pylon.node.rlm.run import Question


@pytest.fixture
def runs(tmp_path: Path) -> McpRuns:
    home = Home(tmp_path)
    home.create()
    return McpRuns(home, settings.parse({}))


async def gone(_: McpRun) -> None:
    raise BrokenPipeError("the client is gone")


async def test_runs_that_are_cancelled_before_their_first_step_make_room_for_others(runs: McpRuns) -> None:
    for _ in range(AT_ONCE + 1):
        run = runs.start(Question("q", wishes={}))
        with pytest.raises(BrokenPipeError):
            await runs.follow(run, gone)
        assert run.state == "cancelled" == (await runs.status(run.id))["state"]


async def test_a_run_that_is_cancelled_under_way_is_told_as_that(runs: McpRuns, monkeypatch) -> None:
    begun = asyncio.Event()

    class Opening:
        async def __aenter__(self) -> None:
            begun.set()
            await asyncio.Event().wait()

        async def __aexit__(self, *_: object) -> None:
            raise AssertionError("it was never open")

    monkeypatch.setattr("pylon.node.mcp.runs.open_node", lambda *_: Opening())
    run = runs.start(Question("q", wishes={}))
    await asyncio.wait_for(begun.wait(), 10)
    assert run.state == "running"
    assert (await runs.cancel(run.id))["state"] == "cancelled"


async def test_runs_that_ended_are_forgotten_though_the_oldest_still_runs(runs: McpRuns, monkeypatch) -> None:
    async def never_ends(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(McpRuns, "_run", never_ends)
    monkeypatch.setattr("pylon.node.mcp.runs.REMEMBERED", 2)
    oldest, *ended = [runs.start(Question("q", wishes={})) for _ in range(3)]
    for run in ended:
        await runs.cancel(run.id)
    newest = runs.start(Question("q", wishes={}))
    assert list(runs._runs) == [oldest.id, newest.id]
    await runs.close()
