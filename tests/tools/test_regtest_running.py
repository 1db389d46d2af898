import socket
import sys

import pytest

from pylon.errors import PylonError, UnreachableError
from tools.regtest.running import Running, free_ports, listens, until

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"


@pytest.fixture
def running(tmp_path):
    known = {}
    made = Running(tmp_path, lambda: known, lambda: None)
    yield made
    for name in list(known):
        made.kill(name)


def sleeper(code: str = "print('up', flush=True); import time; time.sleep(600)") -> list[str]:
    return [sys.executable, "-c", code]


def is_up(path) -> bool:
    return path.exists() and path.read_text() == "up\n"


def test_a_process_is_found_again_by_its_name_and_stopped(running, tmp_path):
    running.spawn("one", sleeper())
    again = Running(tmp_path, running._known, lambda: None)
    process = again.process("one")
    assert process.is_running()
    again.spawn("one", sleeper("raise SystemExit"))
    assert again.process("one").pid == process.pid
    again.stop("one")
    assert not process.is_running() or process.status() == "zombie"
    assert again.process("one") is None


def test_one_that_does_not_stop_when_asked_is_ended(running, tmp_path, monkeypatch):
    monkeypatch.setattr("tools.regtest.running._STOPS_S", 0.1)
    running.spawn("deaf", sleeper(DEAF))
    until(lambda: is_up(tmp_path / "deaf.log"), 20, "it does not start", hint="")
    running.stop("deaf")
    assert running.process("deaf") is None


def test_settings_of_pylon_are_not_handed_on(running, tmp_path, monkeypatch):
    monkeypatch.setenv("PYLON_HOME", "/nowhere")
    running.spawn(
        "env", sleeper("import os; print([n for n in os.environ if n.startswith('PYLON_')])"), {"PYLON_X": "1"}
    )
    until(lambda: (tmp_path / "env.log").read_text() == "['PYLON_X']\n", 20, "it says nothing", hint="")


def test_what_never_holds_is_told_with_its_last_error():
    def holds() -> bool:
        raise PylonError("nobody is there")

    with pytest.raises(UnreachableError, match="it did not come: nobody is there"):
        until(holds, 0.3, "it did not come", hint="look")


def test_ports_are_free_and_all_different():
    ports = free_ports(("a", "b", "c"))
    assert set(ports) == {"a", "b", "c"} and len(set(ports.values())) == 3
    with socket.create_server(("127.0.0.1", ports["a"])):
        assert listens(ports["a"])
    assert not listens(ports["a"])
