"""What a command ends with whose terminal is closed."""

import asyncio
import errno
import os
import sys
from pathlib import Path

import pytest
import typer

from pylon.cli import running
from tests.node import programs

# A process gets the terminal as its own, and with it SIGHUP, by opening it at the beginning of a session.
PYLON = "import os; os.open(os.ttyname(0), os.O_RDWR); from pylon.cli.main import main; main()"


@pytest.mark.parametrize(
    ("arguments", "begun", "codes"),
    # A gateway is told of the signal or, while it still writes, of the write that fails.
    [(("map", "prompts.txt"), b"asking", {130}), (("gateway", "--port", "0"), b"may spend", {0, 130})],
    ids=["map", "gateway"],
)
async def test_a_command_whose_terminal_is_closed_ends_as_by_ctrl_c(tmp_path: Path, arguments, begun, codes) -> None:
    env = programs.environment(tmp_path / "home", "ws://127.0.0.1:9")
    await programs.run("init", env=env)
    (tmp_path / "prompts.txt").write_text("one\ntwo\n")
    terminal, other_end = os.openpty()
    command = [sys.executable, "-P", "-c", PYLON, *arguments]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), other_end)
    process = await asyncio.create_subprocess_exec(*command, env=env, cwd=tmp_path, start_new_session=True, **streams)
    os.close(other_end)
    try:
        shown = b""
        while begun not in shown:
            shown += await asyncio.to_thread(os.read, terminal, 65_536)
        os.close(terminal)
        assert await asyncio.wait_for(process.wait(), 60) in codes
    finally:
        if process.returncode is None:
            process.kill()


# It writes until it is told of the signal, so that a write fails before that.
WRITES = """
import os; os.open(os.ttyname(0), os.O_RDWR)
import asyncio, typer
from pylon.cli import running

async def write():
    stop = running.stop_event()
    while not stop.is_set():
        print("a line", flush=True)
        await asyncio.sleep(0)
    raise typer.Exit(130)

try:
    running.run(write())
except typer.Exit as end:
    os._exit(end.exit_code)
"""


async def test_a_write_that_fails_before_the_signal_is_handled_ends_as_the_signal_does() -> None:
    terminal, other_end = os.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), other_end)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", WRITES, start_new_session=True, **streams
    )
    os.close(other_end)
    try:
        assert b"a line" in await asyncio.to_thread(os.read, terminal, 65_536)
        os.close(terminal)
        assert await asyncio.wait_for(process.wait(), 60) == 130
    finally:
        if process.returncode is None:
            process.kill()


def test_a_disk_that_fails_is_not_taken_for_a_lost_terminal() -> None:
    async def writes() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(typer.Exit) as ended:
        running.run(writes())
    assert ended.value.exit_code == 1
