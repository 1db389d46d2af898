"""What a command ends with whose terminal is closed."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.node import programs

# A process gets the terminal as its own, and with it SIGHUP, by opening it at the beginning of a session.
PYLON = "import os; os.open(os.ttyname(0), os.O_RDWR); from pylon.cli.main import main; main()"


@pytest.mark.parametrize(
    ("arguments", "begun", "code"),
    [(("map", "prompts.txt"), b"asking", 130), (("gateway", "--port", "0"), b"may spend", 0)],
    ids=["map", "gateway"],
)
async def test_a_command_whose_terminal_is_closed_ends_as_by_ctrl_c(tmp_path: Path, arguments, begun, code) -> None:
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
        assert await asyncio.wait_for(process.wait(), 60) == code
    finally:
        if process.returncode is None:
            process.kill()
