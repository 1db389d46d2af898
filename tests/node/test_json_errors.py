"""With `--json` whatever ends a command is an object on standard output, with the documented exit code."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from pylon import __version__
from pylon.cli import main, program, running


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[Any, Any, str]:
    """The program in this process: its status, the one object that it printed, what it told people."""
    monkeypatch.setattr(sys, "argv", ["pylon", *arguments])
    for name in ("wants_json", "printed_json"):
        monkeypatch.setattr(running._Output, name, False)
    with pytest.raises(SystemExit) as ended:
        main.main()
    out, err = capsys.readouterr()
    [line] = out.splitlines()
    return ended.value.code, json.loads(line)["error"], err


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*path, name)
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))


def test_an_option_that_no_command_has_is_an_object_for_each_of_them(monkeypatch, capsys):
    every = list(commands(typer.main.get_command(program.app)))
    assert len(every) > 40 and ("wallet", "balance") in every
    for path in every:
        code, error, told = run(monkeypatch, capsys, *path, "--no-such-option", "--json")
        assert (code, error["type"]) == (2, "UsageError"), path
        assert "--no-such-option" in error["message"] and "--help" in error["hint"], path
        assert error["message"] in told, path


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("strat --json", "Did you mean 'start'"),
        ("ask --json", "missing argument"),
        ("ask --jsn hi --json", "--jsn"),
        ("ask hi --max-tokens 0 --json", "--max-tokens"),
        ("ask hi --max-tokens ten --json", "'--max-tokens': it must be a whole number"),
        ("ask hi --temperature warm --json", "'--temperature': it must be a number"),
        ("map empty.jsonl --json", "empty.jsonl contains no prompts"),
        ("map p.txt -o no/x --json", "not a file in an existing folder"),
        ("rlm q -c p.txt --as odd --json", "--as"),
        ("rlm --questions nothing --json", "nothing cannot be read"),
        ("rlm q -c p.txt --strategy search --root-model m --json", "--root-model: the strategy search has no root"),
        ("rlm q -c p.txt --root-temperature 1 --strategy map-reduce --json", "--root-temperature: the strategy"),
    ],
)
def test_what_is_wrong_with_a_call_is_an_object(monkeypatch, capsys, tmp_path, line, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYLON_HOME", str(tmp_path / "home"))
    Path("empty.jsonl").touch()
    Path("p.txt").write_text("a prompt")
    code, error, _ = run(monkeypatch, capsys, *line.split())
    assert (code, error["type"]) == (2, "UsageError") and says in error["message"] and error["hint"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("ask", "pylon: missing argument 'prompt'\n  Run `pylon ask --help` to"),
        ("ask hi --max-tokens 0", "pylon: invalid value for '--max-tokens': "),
        ("rlm export --format odd", "pylon: invalid value for '--format': 'odd' is not one of "),
        ("rlm q --strategy odd", "pylon: invalid value for '--strategy': 'odd' is not one of 'rlm', 'map-reduce', "),
        ("nosuch", "pylon: no such command 'nosuch'\n  Run `pylon --help` to"),
        ("map nothing.txt", "pylon: nothing.txt cannot be read: No such file or directory\n  Check its name"),
        ("wallet", ""),
    ],
)
def test_what_is_wrong_with_a_call_looks_like_any_other_error_to_people(monkeypatch, capsys, tmp_path, line, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pylon", *line.split()])
    for name in ("wants_json", "printed_json"):
        monkeypatch.setattr(running._Output, name, False)
    with pytest.raises(SystemExit) as ended:
        main.main()
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and err.startswith(says) and "╭" not in err
    assert ("Usage: pylon wallet" in out) is (not says)


def test_what_the_system_refuses_is_an_object_that_names_the_next_step(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").touch()
    for home, says in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "home", "Not a directory")):
        monkeypatch.setenv("PYLON_HOME", str(home))
        code, error, _ = run(monkeypatch, capsys, "init", "--json")
        assert code == 1 and says in error["message"] and "not a folder" in error["hint"]


def test_a_prompt_that_reads_json_behind_two_dashes_is_a_prompt(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pylon", "ask", "--", "--json", "more"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2 and capsys.readouterr().out == ""


@pytest.mark.parametrize("file", ["-", "pipe"])
def test_ctrl_c_while_prompts_are_read_is_an_object(tmp_path, file):
    if file == "pipe":
        os.mkfifo(tmp_path / file)
    command = [sys.executable, "-m", "pylon.cli.main", "map", file, "--json"]
    home = {**os.environ, "PYLON_HOME": str(tmp_path / "home"), "PYTHONPATH": str(Path.cwd())}
    piped = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, cwd=tmp_path, env=home, **piped) as process:
        try:
            if file == "pipe":
                # Opens when the other side reads.
                writes: Any = (tmp_path / file).open("wb", buffering=0)
            else:
                writes = process.stdin
            with writes:
                # More than a pipe holds: what is left is written when some of it is read.
                writes.write(b"a prompt\n" * 20_000)
                writes.flush()
                process.send_signal(signal.SIGINT)
                assert process.wait(30) == 130
            assert process.stdout is not None
            assert json.loads(process.stdout.read())["error"]["type"] == "InterruptError"
        finally:
            process.kill()


@pytest.mark.parametrize("line", ["ask -", "wallet connect -"])
def test_one_ctrl_c_ends_a_command_that_waits_for_standard_input(tmp_path, line):
    program = [sys.executable, "-m", "pylon.cli.main"]
    command = [*program, *line.split(), "--json"]
    home = {**os.environ, "PYLON_HOME": str(tmp_path / "home"), "PYTHONPATH": str(Path.cwd())}
    subprocess.run([*program, "init"], cwd=tmp_path, env=home, check=True, capture_output=True)
    piped = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, cwd=tmp_path, env=home, **piped) as process:
        try:
            assert process.stdin is not None and process.stdout is not None
            # More than a pipe holds, as above.
            process.stdin.write(b"a line\n" * 20_000)
            process.stdin.flush()
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
            assert json.loads(process.stdout.read())["error"]["type"] == "InterruptError"
        finally:
            process.kill()


@pytest.mark.parametrize("line", ["--version --json", "--json --version", "version --json"])
def test_the_version_is_an_object_too(monkeypatch, capsys, line):
    assert json.loads(printed(monkeypatch, capsys, *line.split())) == {"version": __version__}


@pytest.mark.parametrize(
    "line",
    ["--help --json", "--json --help", "help --json", "map --help --json", "help map --json", "wallet --json --help"],
)
def test_help_is_an_object_too(monkeypatch, capsys, line):
    assert "Usage: pylon" in json.loads(printed(monkeypatch, capsys, *line.split()))["help"]
    assert printed(monkeypatch, capsys, *line.replace("--json", "").split()).strip().startswith("Usage: pylon")


def test_the_help_of_rlm_shows_how_to_ask_and_where_the_options_are(monkeypatch, capsys):
    said = " ".join(printed(monkeypatch, capsys, "rlm", "--help").split())
    assert 'Usage: pylon rlm [OPTIONS] "QUESTION" -c FILE…' in said and "`pylon rlm ask --help` lists" in said


@pytest.mark.parametrize(
    ("line", "says"), [("--json", "no command is named"), ("--json version", "no such option: --json")]
)
def test_json_alone_or_before_a_command_is_an_error(monkeypatch, capsys, line, says):
    code, error, _ = run(monkeypatch, capsys, *line.split())
    assert code == 2 and says in error["message"] and "`pylon --help`" in error["hint"]


def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["pylon", *arguments])
    for name in ("wants_json", "printed_json"):
        monkeypatch.setattr(running._Output, name, False)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_an_error_after_an_object_prints_no_second_one(monkeypatch, capsys):
    monkeypatch.setattr(running._Output, "wants_json", True)
    monkeypatch.setattr(running._Output, "printed_json", False)
    running.print_json({"jobs": 1})
    with pytest.raises(typer.Exit):
        running.fail(running.PylonError("no answer"))
    assert capsys.readouterr().out == '{"jobs":1}\n'
