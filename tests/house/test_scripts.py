"""The command that `scripts/setup` makes, the programs that other scripts start, and what is installed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).resolve().parents[2]
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


@pytest.mark.parametrize("script", ["demo", "regtest"])
def test_the_program_that_a_script_starts_is_there(script: str) -> None:
    (module,) = re.findall(r"-P -m (\S+)", (ROOT / "scripts" / script).read_text(encoding="utf-8"))
    done = subprocess.run([sys.executable, "-P", "-m", module, "--help"], capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: scripts/{script} ")


def test_a_wheel_holds_the_package_and_no_developer_tools() -> None:
    names = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {name.split("/")[0] for name in names} == {"pylon"}
    assert not [name for name in names if "regtest" in name or "demo" in name]
    assert {"pylon/cli/main.py", "pylon/inference/models/needle-1/model.safetensors"} <= names
