"""The command that `scripts/setup` makes, the programs that other scripts start, and what is installed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(sys.prefix) / "bin" / "pylon"
SHELL_SCRIPTS = [ROOT / "scripts" / name for name in ("demo", "lock", "regtest", "setup", "test")]
# The bash of macOS is 3.2, of 2007, and its other programs are BSD's.
UNKNOWN_TO_MACS = (
    r"\b(mapfile|readarray|coproc)\b", r"\b(declare|local|typeset) -[a-z]*[An]", r"\bwait -n\b", r"\|&|&>>",
    r"\$\{\w+(\[.*?\])?(,|\^|@)", r"\[-\d+\]", r"\$(EPOCH|SRANDOM)", r"%\([^)]*\)T",
    r"(?<!-)\b(timeout|nproc|setsid|flock|realpath|tac|shuf|sha\d+sum|md5sum|numfmt|getent|ss)(?= |\)|$)",
    r"\breadlink -f\b", r"\bsed .*(-i|-r)\b", r"\bdate .*(-d|--date|%N)", r"\bstat .*(-c|--format)\b",
    r"\bgrep .*-[a-zA-Z]*P", r"\bxargs .*-[a-z]*[rd]\b", r"\b(cp|ln|mktemp|sort|head|tail|mkdir|rm|tr|cut) .*--\w",
    r"\b(cp|ln|mv) .*-[a-z]*[tT]\b", r"\bhead .*-[nc] ?-", r"\bmktemp .*-[a-z]*p\b", r"\bps .*--",
)  # fmt: skip


def without_paths() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


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
    (module,) = re.findall(r"python -m (\S+)", (ROOT / "scripts" / script).read_text(encoding="utf-8"))
    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(command, cwd=ROOT, env=without_paths(), capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: scripts/{script} ")


@pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_a_script_uses_nothing_that_a_mac_s_bash_or_programs_lack(script: Path) -> None:
    lines = script.read_text(encoding="utf-8").splitlines()
    code = [line for line in lines if not line.lstrip().startswith("#")]
    assert [line for line in code for pattern in UNKNOWN_TO_MACS if re.search(pattern, line)] == []


def test_the_command_needs_no_path_file_which_macos_may_hide_from_python(tmp_path: Path) -> None:
    checkout, programs = tmp_path / "a checkout", tmp_path / "bin"
    shutil.copytree(ROOT / "requirements", checkout / "requirements")
    (checkout / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "setup", checkout / "scripts")
    main = checkout / "pylon" / "cli" / "main.py"
    main.parent.mkdir(parents=True)
    main.write_text("def main() -> None:\n    print('it runs')\n")
    programs.mkdir()
    # It installs nothing: what is here needs no library.
    (programs / "uv").write_text("#!/bin/sh\n")
    (programs / "uv").chmod(0o755)
    env = without_paths() | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHON": sys.executable}
    made = subprocess.run([checkout / "scripts" / "setup"], env=env, capture_output=True, check=False, text=True)
    assert made.returncode == 0 and "setup: ready" in made.stderr, made.stderr
    for path_file in (checkout / ".venv").rglob("*.pth"):
        path_file.unlink()
    done = subprocess.run([checkout / ".venv/bin/pylon"], cwd=tmp_path, capture_output=True, check=False, text=True)
    assert done.stdout == "it runs\n", done.stderr


@pytest.mark.parametrize(
    ("system", "machine", "fits"), [("darwin", "arm64", True), ("darwin", "x86_64", False), ("linux", "x86_64", True)]
)
def test_a_python_for_intel_is_not_chosen_on_a_mac(tmp_path: Path, system: str, machine: str, fits: bool) -> None:
    (function,) = re.findall(
        r"^fits\(\) \{.*?^\}$", (ROOT / "scripts" / "setup").read_text(encoding="utf-8"), re.M | re.S
    )
    python = tmp_path / "python"
    pretending = (
        f"import ensurepip, platform, sys, venv; sys.platform = {system!r}; platform.machine = lambda: {machine!r}"
    )
    python.write_text(f"""#!/bin/sh\nexec "{sys.executable}" -c "{pretending}\nexec(sys.argv[1])" "$2"\n""")
    python.chmod(0o755)
    done = subprocess.run(["bash", "-c", f'{function}\nfits "$0"', python], check=False)
    assert (done.returncode == 0) is fits


def test_a_wheel_holds_the_package_and_no_developer_tools() -> None:
    names = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {name.split("/")[0] for name in names} == {"pylon"}
    assert not [name for name in names if "regtest" in name or "demo" in name]
    assert {"pylon/cli/main.py", "pylon/inference/models/needle-1/model.safetensors"} <= names
