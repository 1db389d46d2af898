"""A swarm for whole runs: what is left running on purpose runs on, and what is closed has ended."""

import subprocess
import sys

import psutil

PROGRAM = """
import asyncio, pathlib, sys
from pylon.bench.local_swarm import LocalSwarm

async def main(folder, *, close):
    swarm = LocalSwarm(folder)
    await swarm.open_relay()
    if close:
        await swarm.close()
    print(swarm.processes[0].pid)

asyncio.run(main(pathlib.Path(sys.argv[1]), close=sys.argv[2] == "close"))
"""


def play(tmp_path, how):
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), how], capture_output=True, text=True, timeout=100
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return int(ended.stdout)


def test_what_is_left_running_runs_on_and_nothing_complains(tmp_path):
    relay = psutil.Process(play(tmp_path, "leave"))
    try:
        assert str(tmp_path) in relay.environ()["PYLON_HOME"]
    finally:
        relay.terminate()
        relay.wait(30)


def test_what_was_closed_has_ended(tmp_path):
    assert not psutil.pid_exists(play(tmp_path, "close"))
