"""Whoever closes the engine may be cancelled meanwhile: nothing of it stays."""

import asyncio
import tempfile
from pathlib import Path

import pytest

from pylon.clock import SystemClock
from pylon.inference.child.pending import PendingRequests
from pylon.inference.child.supervisor import ChildLimits, Supervisor
from pylon.inference.engine import EngineSpec
from tests.waiting import until


async def test_a_close_that_is_cancelled_leaves_neither_a_task_nor_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spec = EngineSpec("instant", "stand-in-instant", slots=1)
    limits = ChildLimits(backoff_s=60.0, backoff_most_s=60.0)
    command = [str(tmp_path / "no such program")]
    supervisor = Supervisor(spec, SystemClock(), limits, command, PendingRequests(2), lambda _: None)
    before = asyncio.all_tasks()
    await supervisor.start()
    await until(lambda: supervisor.restarts)
    assert list(Path(tmp_path).iterdir())
    closing = asyncio.create_task(supervisor.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert not list(Path(tmp_path).iterdir())
    assert asyncio.all_tasks() == before
