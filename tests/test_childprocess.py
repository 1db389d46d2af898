"""A child process that is spoken to in frames: how it ends."""

import asyncio
import gc
import sys

import pytest

from pylon.childprocess import FramedProcess

SLEEPS = (sys.executable, "-c", "import time; time.sleep(60)")


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_child_leaves_nothing_open_for_the_end_of_the_event_loop_however_its_end_is_waited_for(
    monkeypatch, cancelled
):
    complaints = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)

    async def work():
        child = await FramedProcess.start(SLEEPS, {})
        ending = asyncio.create_task(child.end())
        await asyncio.sleep(0)
        if cancelled:
            ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)
        assert ending.cancelled() or ending.result() == "was killed by SIGKILL"

    asyncio.run(work())
    gc.collect()
    assert complaints == []
