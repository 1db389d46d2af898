"""Folders of REPLs: none outlives its process for long."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from pylon.rlm.repl.folders import ReplFolder, sweep
from tests.node.programs import environment

KILLED = """
from pylon.rlm.repl.folders import ReplFolder
import os, signal
made = ReplFolder()
(made.path / "context").write_text("the whole text")
print(made.path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_folder_of_a_process_that_was_killed_is_swept_away_and_those_in_use_stay(temporary):
    env = environment(temporary / "home", "ws://127.0.0.1:9")
    left = subprocess.run([sys.executable, "-c", KILLED], env=env, capture_output=True, check=False, text=True)
    assert Path(left.stdout.strip()).is_dir()
    mine = ReplFolder()
    assert sweep(young_s=-1) == 1
    assert [path.name for path in temporary.iterdir()] == [mine.path.name]
    mine.remove()
    mine.remove()
    assert not list(temporary.iterdir())


def test_a_folder_that_is_just_being_made_and_what_only_has_the_name_stay(temporary):
    (temporary / "pylon-sandbox-new").mkdir()
    (temporary / "kept").mkdir()
    (temporary / "pylon-sandbox-link").symlink_to(temporary / "kept")
    (temporary / "pylon-sandbox-file").write_text("x")
    assert sweep() == 0
    old = time.time() - 3_600
    os.utime(temporary / "pylon-sandbox-new", (old, old))
    assert sweep() == 1
    assert len(list(temporary.iterdir())) == 3
