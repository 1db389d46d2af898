"""The program's entry: Ctrl-C while the program is loaded."""

import signal
import subprocess
import sys

import orjson
import pytest

from pylon.cli import program
from pylon.errors import InterruptError, error_row

# The program as it is started, on a disk that takes its time to give one of the files that are read first.
SLOW = """
import sys, time

class Disk:
    def find_spec(self, name, *_):
        if name == "pylon.cli.program":
            print("reads", file=sys.stderr, flush=True)
            time.sleep(60)

sys.meta_path.insert(0, Disk())
from pylon.cli.main import main
main()
"""
INTERRUPTED = {"error": error_row(InterruptError("interrupted"))}


def interrupted(*arguments: str) -> tuple[int, bytes, bytes]:
    command = [sys.executable, "-c", SLOW, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None and process.stderr.readline() == b"reads\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    return process.returncode, out, err


@pytest.mark.parametrize("line", ["status", "ask -- --json"])
def test_ctrl_c_while_the_program_is_loaded_ends_it_without_a_word(line):
    assert interrupted(*line.split()) == (130, b"", b"")


def test_with_json_ctrl_c_while_the_program_is_loaded_is_the_object_that_it_is_later():
    code, out, err = interrupted("status", "--json")
    assert (code, orjson.loads(out), err) == (130, INTERRUPTED, b"")


def test_ctrl_c_while_no_command_runs_yet_or_any_more_is_no_traceback(monkeypatch, capsys):
    def pressed(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "app", pressed)
    with pytest.raises(SystemExit) as ended:
        program.main(as_json=True)
    assert ended.value.code == 130 and orjson.loads(capsys.readouterr().out) == INTERRUPTED
