"""The command that `scripts/setup` makes."""

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.prefix) / "bin" / "pylon"


@pytest.mark.skipif(not COMMAND.exists(), reason="this environment was not made by scripts/setup")
@pytest.mark.parametrize("planted", ["pylon/__init__.py", "typer.py", "secrets.py"])
def test_nothing_in_the_folder_where_the_command_is_called_is_imported(tmp_path: Path, planted: str) -> None:
    trap = tmp_path / planted
    trap.parent.mkdir(exist_ok=True)
    trap.write_text("raise SystemExit('this ran what lay in the current folder')")
    home = tmp_path / "home"
    done = subprocess.run(
        [COMMAND, "status", "--json"],
        cwd=tmp_path,
        env={"PYLON_HOME": str(home), "PYTHONPATH": ":/nowhere"},
        capture_output=True,
        check=False,
    )
    assert b"current folder" not in done.stderr
    assert b'"error"' in done.stdout + done.stderr, "it got as far as to find that there is no home"
